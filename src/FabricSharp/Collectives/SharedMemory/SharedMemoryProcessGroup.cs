using FabricSharp.Interop.LibTorch;
using TorchSharp;
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

    public override Work AllReduce(Tensor tensor, ReduceOp? op = null)
    {
        var reduce = op ?? ReduceOp.Sum;
        RequireCpu(tensor, nameof(AllReduce));
        Reduction.Require(reduce, tensor.dtype);
        var (flat, atEnd) = Flatten(tensor, copyBack: true);
        var data = Data(flat);
        var count = flat.numel();
        var size = (int)flat.dtype.SizeInBytes();
        if (count * size <= _channel.InlineBytes)
            return Start([new InlineAllReduce(data, count, tensor.dtype, reduce)], flat, atEnd);
        return Start(InPieces(count, size, (begin, length) => new StagedAllReduce(data + begin * size, length, tensor.dtype, reduce, count)), flat, atEnd);
    }

    public override Work Broadcast(Tensor tensor, int root)
    {
        RequireCpu(tensor, nameof(Broadcast));
        if (root < 0 || root >= Size)
            throw new ArgumentOutOfRangeException(nameof(root), root, $"Broadcast: the root must be a rank of the group, 0 to {Size - 1}.");
        var (flat, atEnd) = Flatten(tensor, copyBack: Rank != root);
        var data = Data(flat);
        var count = flat.numel();
        var size = (int)flat.dtype.SizeInBytes();
        return Start(InPieces(count, size, (begin, length) => new StagedBroadcast(data + begin * size, (int)length * size, root, tensor.dtype, count)), flat, atEnd);
    }

    public override Work AllGather(Tensor output, Tensor input)
    {
        RequireCpu(output, nameof(AllGather));
        RequireCpu(input, nameof(AllGather));
        if (output.dtype != input.dtype || output.numel() != input.numel() * Size || !output.is_contiguous())
            throw new ArgumentException(
                $"AllGather: the output must be contiguous, {input.dtype}, of {input.numel() * Size} elements ({Size} ranks × {input.numel()}); " +
                $"it is {output.dtype} of {output.numel()}{(output.is_contiguous() ? "" : ", not contiguous")}.", nameof(output));
        var (flat, atEnd) = Flatten(input, copyBack: false);
        byte* source = Data(flat), destination = Data(output);
        var count = flat.numel();
        var size = (int)flat.dtype.SizeInBytes();
        return Start(
            InPieces(count, size, (begin, length) => new StagedAllGather(source + begin * size, destination + begin * size, count * size, (int)length * size, input.dtype, count)),
            flat,
            succeeded =>
            {
                GC.KeepAlive(output);
                atEnd?.Invoke(succeeded);
            });
    }

    public override Work Barrier() => Start([new BarrierOperation()], null, null);

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

    private static void RequireCpu(Tensor tensor, string operation)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        if (tensor.device_type != DeviceType.CPU)
            throw new ArgumentException($"{operation}: the shm back end takes CPU tensors, this one is on {tensor.device}. Move it to the CPU first.", nameof(tensor));
        if (tensor.is_sparse)
            throw new ArgumentException($"{operation}: the shm back end takes strided tensors, this one is sparse. Call to_dense() first.", nameof(tensor));
    }

    /// <summary>
    /// The tensor itself where it is contiguous, else a contiguous copy and what brings the result back (if there is one) and frees the copy.
    /// </summary>
    private static (Tensor Flat, Action<bool>? AtEnd) Flatten(Tensor tensor, bool copyBack)
    {
        if (tensor.is_contiguous())
            return (tensor, null);
        using var gradientsOff = no_grad();
        using var detached = tensor.detach();
        var flat = detached.contiguous().DetachFromDisposeScope();
        return (flat, succeeded =>
        {
            using var off = no_grad();
            if (copyBack && succeeded)
                tensor.copy_(flat);
            flat.Dispose();
        });
    }

    private static byte* Data(Tensor tensor) => tensor.numel() == 0 ? null : (byte*)TensorMemory.PointerOf(tensor);

    private static SharedMemoryOperation[] InPieces(long count, int elementSize, Func<long, long, SharedMemoryOperation> make)
    {
        var piece = StagingBytes / elementSize;
        var operations = new SharedMemoryOperation[Math.Max(1, (count + piece - 1) / piece)];
        for (var i = 0; i < operations.Length; i++)
            operations[i] = make((long)i * piece, Math.Min(piece, count - (long)i * piece));
        return operations;
    }

    private SharedMemoryWork Start(SharedMemoryOperation[] operations, Tensor? kept, Action<bool>? atEnd)
    {
        try
        {
            _channel.Enqueue(operations);
        }
        catch
        {
            atEnd?.Invoke(false);
            throw;
        }

        return new SharedMemoryWork(_channel, operations[^1], kept, atEnd);
    }
}
