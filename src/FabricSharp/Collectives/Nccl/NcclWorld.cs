using FabricSharp.Collectives.Control;
using FabricSharp.Interop.Cuda;
using FabricSharp.Interop.Nccl;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Nccl;

/// <summary>What the parts of one group share: libraries, device, the connection to the other ranks, and the first failure.</summary>
internal sealed class NcclWorld : IDisposable
{
    private readonly Lock _gate = new();
    private readonly List<NcclCommunicator> _communicators = [];
    private readonly Store _store;
    private int _channels;
    private DistributedException? _failure;

    public NcclWorld(NcclEngine engine, int device, Store store, ControlLine line, IReadOnlyList<int> globalRanks, TimeSpan timeout)
    {
        Engine = engine;
        DeviceIndex = device;
        _store = store;
        Line = line;
        GlobalRanks = globalRanks;
        Timeout = timeout;
    }

    public NcclEngine Engine { get; }

    public NcclLibrary Nccl => Engine.Nccl;

    public CudaRuntime Cuda => Engine.Cuda;

    public int DeviceIndex { get; }

    public Device TensorDevice => Engine.DeviceAt(DeviceIndex);

    public ControlLine Line { get; }

    public int Rank => Line.Rank;

    public int Size => GlobalRanks.Count;

    public IReadOnlyList<int> GlobalRanks { get; }

    public TimeSpan Timeout { get; }

    public string Me => $"R{NameOf(Rank)[1..]}";

    /// <summary>Why the group cannot be used any more; null while it can.</summary>
    public DistributedException? Failure => Volatile.Read(ref _failure);

    public string NameOf(int rank) => RankName.Of(rank, GlobalRanks);

    /// <summary>The number of an ordered sequence of operations; the same on every rank, as channels are made collectively.</summary>
    public int NextChannel() => Interlocked.Increment(ref _channels);

    public void ThrowIfFailed()
    {
        if (Failure is { } first)
            throw new DistributedException($"{Me}: the process group is not usable any more: {first.Message}", first);
    }

    /// <summary>Keeps the first failure and ends what NCCL is doing on this rank. Other ranks are not told.</summary>
    /// <returns>The first failure.</returns>
    public DistributedException Fail(DistributedException failure)
    {
        NcclCommunicator[] running;
        lock (_gate)
        {
            if (_failure is not null)
                return _failure;
            Volatile.Write(ref _failure, failure);
            running = [.. _communicators];
        }

        Array.ForEach(running, communicator => communicator.Abort());
        return failure;
    }

    /// <summary>Agrees with some ranks on a communicator's identity: the first of them makes it.</summary>
    public NcclUniqueId ShareUniqueId(string key, bool isFirst, TimeSpan limit)
    {
        if (!isFirst)
            return NcclUniqueId.From(_store.Get($"id/{key}", limit));
        var id = Nccl.NewUniqueId();
        _store.Set($"id/{key}", id.ToArray());
        return id;
    }

    public void Add(NcclCommunicator communicator)
    {
        lock (_gate)
            _communicators.Add(communicator);
    }

    public void Remove(NcclCommunicator communicator)
    {
        lock (_gate)
            _communicators.Remove(communicator);
    }

    /// <summary>A store for a group of some of the ranks.</summary>
    public Store StoreFor(int group) => new PrefixStore($"group/{group}", _store);

    /// <summary>Ends everything. Waits on other threads end with an error.</summary>
    public void Dispose()
    {
        NcclCommunicator[] left;
        lock (_gate)
        {
            left = [.. _communicators];
            _communicators.Clear();
            if (_failure is null)
                Volatile.Write(ref _failure, new DistributedException($"{Me}: the process group was disposed."));
        }

        Array.ForEach(left, communicator => communicator.Dispose());
        Line.Dispose();
    }
}
