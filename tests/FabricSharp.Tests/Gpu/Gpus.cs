using FabricSharp.Collectives;
using FabricSharp.Collectives.Nccl;
using FabricSharp.Tests.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Gpu;

/// <summary>
/// The GPUs of this machine. Tests that need them are skipped elsewhere, with the reason. With FABRIC_GPU_TESTS=simulated they run over the simulated NCCL and CPU
/// tensors, which shows that the tests themselves are right.
/// </summary>
internal static class Gpus
{
    public static bool AreSimulated { get; } = Environment.GetEnvironmentVariable("FABRIC_GPU_TESTS") == "simulated";

    public static void Require(int count)
    {
        if (AreSimulated)
            return;
        Assert.SkipWhen(NcclEngine.MissingReason is not null, $"No GPU test here: {NcclEngine.MissingReason}.");
        Assert.SkipWhen(cuda.device_count() < count, $"Needs {count} GPUs, this machine has {cuda.device_count()}.");
    }

    /// <summary>Ranks as threads, each with a GPU of its own, over the real NCCL.</summary>
    public static void Run(int ranks, Action<ProcessGroup, Device> body)
    {
        using var store = new HashStore();
        RankThreads.Run(ranks, rank =>
        {
            using var group = AreSimulated
                ? GroupOfThreads.Create("nccl", store, rank, ranks, GroupOfThreads.Limit)
                : ProcessGroup.Create("nccl", store, rank, ranks, GroupOfThreads.Limit);
            using var scope = NewDisposeScope();
            body(group, group.TensorDevice);
        });
    }
}
