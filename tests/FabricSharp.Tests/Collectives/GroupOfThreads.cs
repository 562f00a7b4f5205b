using FabricSharp.Collectives;
using FabricSharp.Tests.Collectives.Nccl;

namespace FabricSharp.Tests.Collectives;

/// <summary>Process groups whose ranks are threads of this process.</summary>
internal static class GroupOfThreads
{
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(25);

    /// <summary>Runs <paramref name="body"/> on each rank with its group, and throws the first failure that is not another rank's.</summary>
    public static void Run(string backend, int size, Action<ProcessGroup> body)
    {
        using var store = new HashStore();
        RankThreads.Run(size, rank => RunRank(backend, store, rank, size, body));
    }

    /// <summary>The same; returns what each rank threw. No rank leaves its group before all have ended.</summary>
    public static Exception?[] RunEach(string backend, int size, Action<ProcessGroup> body)
    {
        using var store = new HashStore();
        using var ended = new CountdownEvent(size);
        return RankThreads.RunEach(size, rank => RunRank(backend, store, rank, size, group =>
        {
            try
            {
                body(group);
            }
            finally
            {
                ended.Signal();
                ended.Wait(Limit);
            }
        }));
    }

    /// <summary>Joins; <c>nccl</c> is a simulated NCCL over CPU tensors here.</summary>
    public static ProcessGroup Create(string backend, Store store, int rank, int size, TimeSpan? timeout = null) => backend == "nccl" && store is not null && rank >= 0 && rank < size
        ? FakeNccl.Join(store, rank, size, timeout ?? ProcessGroup.DefaultTimeout)
        : ProcessGroup.Create(backend, store!, rank, size, timeout);

    private static void RunRank(string backend, Store store, int rank, int size, Action<ProcessGroup> body)
    {
        using var group = Create(backend, store, rank, size, Limit);
        using var scope = TorchSharp.torch.NewDisposeScope();
        body(group);
    }
}
