using System.Collections.Concurrent;
using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>The ranks of one machine, CPU tensors, shared memory: the embedded default, nothing to install.</summary>
internal sealed unsafe class SharedMemoryProcessGroup : ProcessGroup
{
    /// <summary>What all ranks together read at most to combine a small tensor each for itself; beyond, sharing the work is faster.</summary>
    private const int InlineBytesOfAll = 128 * 1024;

    private const int DefaultStagingBytes = 256 * 1024; // a slot is half a usual second-level cache: copied in, combined and copied out while it is there

    private readonly SharedMemoryWorld _world;
    private readonly SharedMemoryChannel _channel;
    private readonly SharedMemoryMailbox _mailbox;
    private readonly EventHandler _atExit;
    private readonly UnhandledExceptionEventHandler _atCrash;

    /// <summary>Groups that were made of this one; a group that gives up takes them along.</summary>
    private readonly ConcurrentBag<WeakReference<SharedMemoryProcessGroup>> _children = [];

    private SharedMemoryProcessGroup(SharedMemoryWorld world, int stagingBytes)
    {
        _world = world;
        var inlineBytes = Math.Max(Math.Max(4096, InlineBytesOfAll / world.Size & ~63), (2 * sizeof(long) * world.Size + 63) & ~63); // the sizes of an all-to-all fit
        _channel = new SharedMemoryChannel(world, "the process group", new SharedMemoryChannelShape(
            RingLength: 64, InlineSlots: 4, inlineBytes, StagingSlots: 4, Math.Max(stagingBytes, 64 * world.Size)));
        _mailbox = new SharedMemoryMailbox(world, _channel);
        _atExit = (_, _) => _world.Leave();
        _atCrash = (_, e) => Abort(DescribeCrash(e.ExceptionObject));
        AppDomain.CurrentDomain.ProcessExit += _atExit;
        AppDomain.CurrentDomain.UnhandledException += _atCrash;
    }

    public override int Rank => _world.Rank;

    public override int Size => _world.Size;

    public override string Backend => "shm";

    public override TimeSpan Timeout => _world.Timeout;

    public override IReadOnlyList<int> GlobalRanks => _world.GlobalRanks;

    /// <summary>For tests: where warnings go.</summary>
    internal Action<string> Warn
    {
        set => _world.Warn = value;
    }

    /// <summary>Joins the group of <paramref name="store"/>. Collective.</summary>
    /// <param name="store">Where the ranks meet.</param>
    /// <param name="rank">This rank.</param>
    /// <param name="size">The number of ranks.</param>
    /// <param name="timeout">The limit of each wait.</param>
    /// <param name="stagingBytes">Size of the pieces in which large tensors are moved; smaller in tests.</param>
    /// <param name="folders">Where segments go; chosen but in tests.</param>
    public static SharedMemoryProcessGroup Join(
        Store store, int rank, int size, TimeSpan timeout, int stagingBytes = DefaultStagingBytes, SharedMemoryFolders? folders = null) =>
        Over(SharedMemoryWorld.Join(store, rank, size, timeout, folders), stagingBytes);

    private protected override Work AllReduceCore(Tensor tensor, ReduceOp op)
    {
        var data = Data(tensor);
        var (count, type) = (tensor.numel(), tensor.dtype);
        return count * type.SizeInBytes() <= _channel.InlineBytes
            ? Start([new InlineAllReduce(data, count, type, op)], tensor)
            : AllReduceInPieces(tensor, data, count, type, op);
    }

    /// <summary>Apart, so that a small all-reduce makes no closure.</summary>
    private SharedMemoryWork AllReduceInPieces(Tensor tensor, byte* data, long count, ScalarType type, ReduceOp op)
    {
        var size = (int)type.SizeInBytes();
        return Start(InPieces(count, _channel.StagingBytes / size, (begin, length) => new StagedAllReduce(data + begin * size, length, type, op, count)), tensor);
    }

    private protected override Work BroadcastCore(Tensor tensor, int root)
    {
        var data = Data(tensor);
        var (count, type) = (tensor.numel(), tensor.dtype);
        var size = (int)type.SizeInBytes();
        return Start(InPieces(count, _channel.StagingBytes / size, (begin, length) => new StagedBroadcast(data + begin * size, (int)length * size, root, type, count)), tensor);
    }

    private protected override Work AllGatherCore(Tensor output, Tensor input)
    {
        byte* source = Data(input), destination = Data(output);
        var (count, type) = (input.numel(), input.dtype);
        var size = (int)type.SizeInBytes();
        return Start(
            InPieces(count, _channel.StagingBytes / size, (begin, length) => new StagedAllGather(source + begin * size, destination + begin * size, count * size, (int)length * size, type, count)),
            input, output);
    }

    private protected override Work ReduceCore(Tensor tensor, int root, ReduceOp op)
    {
        var data = Data(tensor);
        var (count, type) = (tensor.numel(), tensor.dtype);
        var size = (int)type.SizeInBytes();
        if (count * size <= _channel.InlineBytes)
            return Start([new InlineReduce(data, count, type, op, root)], tensor);
        var isRoot = Rank == root;
        return Start(InPieces(count, _channel.StagingBytes / size, (begin, length) => new StagedReduce(data + begin * size, length, type, op, root, isRoot, count)), tensor);
    }

    private protected override Work GatherCore(Tensor? output, Tensor input, int root)
    {
        byte* source = Data(input), destination = output is null ? null : Data(output);
        var (count, type) = (input.numel(), input.dtype);
        var size = (int)type.SizeInBytes();
        return Start(
            InPieces(count, _channel.StagingBytes / size, (begin, length) => new StagedGather(source + begin * size, destination + begin * size, count * size, (int)length * size, root, type, count)),
            input, output);
    }

    private protected override Work ScatterCore(Tensor output, Tensor? input, int root)
    {
        byte* destination = Data(output), source = input is null ? null : Data(input);
        var (count, type) = (output.numel(), output.dtype);
        var size = (int)type.SizeInBytes();
        return Start(
            InPieces(count, _channel.StagingBytes / size, (begin, length) => new StagedScatter(source + begin * size, count * size, destination + begin * size, (int)length * size, root, type, count)),
            output, input);
    }

    private protected override Work ReduceScatterCore(Tensor output, Tensor input, ReduceOp op)
    {
        byte* source = Data(input), destination = Data(output);
        var (count, type) = (output.numel(), output.dtype);
        var size = (int)type.SizeInBytes();
        return Start(
            InPieces(count, _channel.StagingPartBytes / size, (begin, length) => new StagedReduceScatter(source + begin * size, count * size, destination + begin * size, length, type, op, count)),
            output, input);
    }

    private protected override Work AllToAllCore(Tensor output, Tensor input)
    {
        var counts = new long[Size];
        Array.Fill(counts, input.numel() / Size);
        return AllToAll(output, counts, input, counts, counts[0]);
    }

    private protected override Work AllToAllCore(Tensor output, long[] outputCounts, Tensor input, long[] inputCounts)
    {
        var sizes = new AllToAllSizes(outputCounts, inputCounts, input.dtype);
        _channel.Enqueue([sizes]);
        _channel.Wait(sizes, Timeout);
        return AllToAll(output, outputCounts, input, inputCounts, sizes.Largest);
    }

    private SharedMemoryWork AllToAll(Tensor output, long[] outputCounts, Tensor input, long[] inputCounts, long largest)
    {
        byte* source = Data(input), destination = Data(output);
        var type = input.dtype;
        var size = (int)type.SizeInBytes();
        PartLayout outgoing = new(inputCounts, size), incoming = new(outputCounts, size);
        return Start(
            InPieces(largest, _channel.StagingPartBytes / size, (begin, length) => new StagedAllToAll(source, outgoing, destination, incoming, begin * size, length * size, type, largest)),
            output, input);
    }

    private protected override Work SendCore(Tensor tensor, int destination, int tag) =>
        new SharedMemoryWork(_mailbox, _mailbox.Send(Data(tensor), tensor.numel(), tensor.dtype, destination, tag), tensor);

    private protected override Work RecvCore(Tensor tensor, int source, int tag) =>
        new SharedMemoryWork(_mailbox, _mailbox.Receive(Data(tensor), tensor.numel(), tensor.dtype, source, tag), tensor);

    private protected override Work BarrierCore() => Start([new BarrierOperation()]);

    private protected override IReadOnlyList<int> MonitoredBarrierCore(TimeSpan timeout)
    {
        var barrier = new BarrierOperation(CollectiveKind.MonitoredBarrier);
        _channel.Enqueue([barrier]);
        try
        {
            _channel.Wait(barrier, timeout);
            return [];
        }
        catch (DistributedTimeoutException)
        {
            var late = _channel.LateFor(barrier);
            if (late.Count == 0) // they came a moment too late
                throw;
            return late;
        }
    }

    private protected override ProcessGroup? NewGroupCore(int[] ranks, TimeSpan timeout)
    {
        var (made, failure) = Rank == ranks[0] ? MakeControl(ranks.Length) : (null, null);
        var path = ShareThePath(made, ranks[0]);
        if (path.Length == 0)
            throw new DistributedException($"{Me}: {NameOf(ranks[0])} could not make the memory of a group of {ranks.Length} ranks{(failure is null ? "; its own error says why." : $": {failure.Message}")}", failure);
        if (!ranks.Contains(Rank))
            return null;
        var child = Over(_world.JoinSubset(made, path, ranks, timeout), _channel.StagingBytes);
        _children.Add(new WeakReference<SharedMemoryProcessGroup>(child));
        return child;
    }

    public override void Abort(string reason)
    {
        _world.Fail(reason);
        _channel.Fail(new DistributedException($"{Me}: this rank has given the group up: {reason}"));
        foreach (var reference in _children)
            if (reference.TryGetTarget(out var child))
                child.Abort(reason);
    }

    internal override GradientChannel CreateGradientChannel(string name, int exchangeBytes) =>
        new SharedMemoryGradientChannel(_world, name, exchangeBytes);

    protected override void Dispose(bool disposing)
    {
        AppDomain.CurrentDomain.ProcessExit -= _atExit;
        AppDomain.CurrentDomain.UnhandledException -= _atCrash;
        _mailbox.Dispose();
        _channel.Dispose();
        _world.Dispose();
    }

    private static SharedMemoryProcessGroup Over(SharedMemoryWorld world, int stagingBytes)
    {
        try
        {
            return new SharedMemoryProcessGroup(world, stagingBytes);
        }
        catch
        {
            world.Dispose();
            throw;
        }
    }

    private string ShareThePath(SharedMemorySegment? made, int maker)
    {
        try
        {
            return BroadcastObject(made?.Path ?? "", maker);
        }
        catch
        {
            made?.Unlink();
            made?.Dispose();
            throw;
        }
    }

    private (SharedMemorySegment? Made, DistributedException? Failure) MakeControl(int size)
    {
        try
        {
            return (SharedMemoryWorld.MakeControl(_world.Folders, size), null);
        }
        catch (DistributedException e)
        {
            return (null, e);
        }
    }

    private static string DescribeCrash(object exception) =>
        exception is Exception e ? $"unhandled {e.GetType().Name}: {e.Message}" : $"unhandled {exception}";

    private static byte* Data(Tensor tensor) => tensor.numel() == 0 ? null : (byte*)TensorMemory.PointerOf(tensor);

    private static SharedMemoryOperation[] InPieces(long count, int elementsPerPiece, Func<long, long, SharedMemoryOperation> make)
    {
        var operations = new SharedMemoryOperation[Pieces.Count(count, elementsPerPiece)];
        for (var i = 0; i < operations.Length; i++)
        {
            var (begin, length) = Pieces.At(i, count, elementsPerPiece);
            operations[i] = make(begin, length);
        }

        return operations;
    }

    private SharedMemoryWork Start(SharedMemoryOperation[] operations, Tensor? kept = null, Tensor? alsoKept = null)
    {
        _channel.Enqueue(operations);
        return new SharedMemoryWork(_channel, operations[^1], kept, alsoKept);
    }
}
