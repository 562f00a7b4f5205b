using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>The ranks of one machine, CPU tensors, shared memory: the embedded default, nothing to install.</summary>
internal sealed unsafe class SharedMemoryProcessGroup : ProcessGroup
{
    /// <summary>What all ranks together read at most to combine a small tensor each for itself; beyond, sharing the work is faster.</summary>
    private const int InlineBytesOfAll = 128 * 1024;

    private const int StagingBytes = 256 * 1024; // a slot is half a usual second-level cache: copied in, combined and copied out while it is there

    private readonly SharedMemoryWorld _world;
    private readonly SharedMemoryChannel _channel;
    private readonly EventHandler _atExit;
    private readonly UnhandledExceptionEventHandler _atCrash;

    private SharedMemoryProcessGroup(SharedMemoryWorld world)
    {
        _world = world;
        _channel = new SharedMemoryChannel(world, "the process group", new SharedMemoryChannelShape(
            RingLength: 64, InlineSlots: 4, InlineBytes: Math.Max(4096, InlineBytesOfAll / world.Size & ~63), StagingSlots: 4, StagingBytes));
        _atExit = (_, _) => _world.Leave();
        _atCrash = (_, e) => Abort(DescribeCrash(e.ExceptionObject));
        AppDomain.CurrentDomain.ProcessExit += _atExit;
        AppDomain.CurrentDomain.UnhandledException += _atCrash;
    }

    public override int Rank => _world.Rank;

    public override int Size => _world.Size;

    public override string Backend => "shm";

    public override TimeSpan Timeout => _world.Timeout;

    public static SharedMemoryProcessGroup Join(Store store, int rank, int size, TimeSpan timeout)
    {
        var world = SharedMemoryWorld.Join(store, rank, size, timeout);
        try
        {
            return new SharedMemoryProcessGroup(world);
        }
        catch
        {
            world.Dispose();
            throw;
        }
    }

    private protected override Work AllReduceCore(Tensor tensor, ReduceOp op)
    {
        var data = Data(tensor);
        var (count, type) = (tensor.numel(), tensor.dtype);
        var size = (int)type.SizeInBytes();
        if (count * size <= _channel.InlineBytes)
            return Start([new InlineAllReduce(data, count, type, op)], tensor);
        return Start(InPieces(count, size, (begin, length) => new StagedAllReduce(data + begin * size, length, type, op, count)), tensor);
    }

    private protected override Work BroadcastCore(Tensor tensor, int root)
    {
        var data = Data(tensor);
        var (count, type) = (tensor.numel(), tensor.dtype);
        var size = (int)type.SizeInBytes();
        return Start(InPieces(count, size, (begin, length) => new StagedBroadcast(data + begin * size, (int)length * size, root, type, count)), tensor);
    }

    private protected override Work AllGatherCore(Tensor output, Tensor input)
    {
        byte* source = Data(input), destination = Data(output);
        var (count, type) = (input.numel(), input.dtype);
        var size = (int)type.SizeInBytes();
        return Start(
            InPieces(count, size, (begin, length) => new StagedAllGather(source + begin * size, destination + begin * size, count * size, (int)length * size, type, count)),
            input, output);
    }

    private protected override Work ReduceCore(Tensor tensor, int root, ReduceOp op) => throw new NotImplementedException();

    private protected override Work GatherCore(Tensor? output, Tensor input, int root) => throw new NotImplementedException();

    private protected override Work ScatterCore(Tensor output, Tensor? input, int root) => throw new NotImplementedException();

    private protected override Work ReduceScatterCore(Tensor output, Tensor input, ReduceOp op) => throw new NotImplementedException();

    private protected override Work AllToAllCore(Tensor output, Tensor input) => throw new NotImplementedException();

    private protected override Work AllToAllCore(Tensor output, long[] outputCounts, Tensor input, long[] inputCounts) => throw new NotImplementedException();

    private protected override Work SendCore(Tensor tensor, int destination, int tag) => throw new NotImplementedException();

    private protected override Work RecvCore(Tensor tensor, int source, int tag) => throw new NotImplementedException();

    private protected override Work BarrierCore() => Start([new BarrierOperation()]);

    private protected override IReadOnlyList<int> MonitoredBarrierCore(TimeSpan timeout) => throw new NotImplementedException();

    private protected override ProcessGroup? NewGroupCore(int[] ranks, TimeSpan timeout) => throw new NotImplementedException();

    public override void Abort(string reason)
    {
        _world.Fail(reason);
        _channel.Fail(new DistributedException($"Rank {Rank}: this rank has given the group up: {reason}"));
    }

    internal override GradientChannel CreateGradientChannel(string name, int exchangeBytes) =>
        new SharedMemoryGradientChannel(_world, name, exchangeBytes);

    protected override void Dispose(bool disposing)
    {
        AppDomain.CurrentDomain.ProcessExit -= _atExit;
        AppDomain.CurrentDomain.UnhandledException -= _atCrash;
        _channel.Dispose();
        _world.Dispose();
    }

    private static string DescribeCrash(object exception) =>
        exception is Exception e ? $"unhandled {e.GetType().Name}: {e.Message}" : $"unhandled {exception}";

    private static byte* Data(Tensor tensor) => tensor.numel() == 0 ? null : (byte*)TensorMemory.PointerOf(tensor);

    private static SharedMemoryOperation[] InPieces(long count, int elementSize, Func<long, long, SharedMemoryOperation> make)
    {
        var piece = StagingBytes / elementSize;
        var operations = new SharedMemoryOperation[Math.Max(1, (count + piece - 1) / piece)];
        for (var i = 0; i < operations.Length; i++)
            operations[i] = make((long)i * piece, Math.Min(piece, count - (long)i * piece));
        return operations;
    }

    private SharedMemoryWork Start(SharedMemoryOperation[] operations, Tensor? kept = null, Tensor? alsoKept = null)
    {
        _channel.Enqueue(operations);
        return new SharedMemoryWork(_channel, operations[^1], kept, alsoKept);
    }
}
