using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Text.Json;
using FabricSharp.Collectives.Control;
using FabricSharp.Collectives.Devices;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Interop.Nccl;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Nccl;

/// <summary>
/// GPUs of one machine or several, through NVIDIA's NCCL. Beside NCCL the ranks have a control connection (<see cref="ControlLine"/>): it compares what they
/// call, tells of ranks that fail or leave, and carries small messages. See docs/reference/engines-nccl.md.
/// </summary>
internal sealed class NcclProcessGroup : ProcessGroup
{
    /// <summary>Set to <c>before</c> to have every operation wait until all ranks are known to have called the same.</summary>
    public const string CheckVariable = "FABRIC_NCCL_CHECK";

    private readonly NcclWorld _world;
    private readonly NcclCommunicator _communicator;
    private readonly NcclMessages _messages;
    private readonly int _channel;
    private readonly bool _checksBefore;
    private readonly EventHandler _atExit;
    private readonly UnhandledExceptionEventHandler _atCrash;

    /// <summary>Groups that were made of this one; a group that gives up takes them along.</summary>
    private readonly ConcurrentBag<WeakReference<NcclProcessGroup>> _children = [];
    private Tensor? _barrier;
    private int _groups;

    private NcclProcessGroup(NcclWorld world)
    {
        _world = world;
        _channel = world.NextChannel();
        _checksBefore = string.Equals(Environment.GetEnvironmentVariable(CheckVariable), "before", StringComparison.OrdinalIgnoreCase);
        _communicator = new NcclCommunicator(world, $"channel {_channel}", world.Rank, world.Size);
        _messages = new NcclMessages(world, _communicator);
        _atExit = (_, _) => _world.Line.Dispose();
        _atCrash = (_, e) => Abort(e.ExceptionObject is Exception crash ? $"unhandled {crash.GetType().Name}: {crash.Message}" : $"unhandled {e.ExceptionObject}");
        AppDomain.CurrentDomain.ProcessExit += _atExit;
        AppDomain.CurrentDomain.UnhandledException += _atCrash;
    }

    public override int Rank => _world.Rank;

    public override int Size => _world.Size;

    public override string Backend => "nccl";

    public override TimeSpan Timeout => _world.Timeout;

    public override IReadOnlyList<int> GlobalRanks => _world.GlobalRanks;

    internal override Device TensorDevice => _world.TensorDevice;

    /// <summary>Joins the group of <paramref name="store"/>. Collective.</summary>
    /// <param name="engine">The libraries.</param>
    /// <param name="store">Where the ranks meet; used later, too.</param>
    /// <param name="rank">This rank.</param>
    /// <param name="size">The number of ranks.</param>
    /// <param name="timeout">The limit of each wait.</param>
    /// <param name="device">The number of this rank's device; null for its place among the ranks of its machine.</param>
    public static NcclProcessGroup Join(NcclEngine engine, Store store, int rank, int size, TimeSpan timeout, int? device = null) =>
        Join(engine, store, rank, [.. Enumerable.Range(0, size)], timeout, device);

    private static NcclProcessGroup Join(NcclEngine engine, Store store, int rank, IReadOnlyList<int> globalRanks, TimeSpan timeout, int? device)
    {
        var meeting = new ControlMeeting(store, rank, globalRanks.Count, globalRanks, timeout);
        var members = meeting.Introduce(JsonSerializer.Serialize(Member.Here(engine, device))).Select(text => JsonSerializer.Deserialize<Member>(text)!).ToList();
        var mine = NcclPlacement.DeviceOf(rank, members, globalRanks);
        var line = meeting.Connect(isOneMachine: members.All(member => member.Machine == members[0].Machine));
        var world = new NcclWorld(engine, mine, store, line, globalRanks, timeout);
        try
        {
            return new NcclProcessGroup(world);
        }
        catch
        {
            world.Dispose();
            throw;
        }
    }

    private protected override Work AllReduceCore(Tensor tensor, ReduceOp op)
    {
        NcclMapping.Require(op, tensor.dtype, Me, nameof(AllReduce));
        return AllReduceOn(_communicator, _channel, $"AllReduce({op}) of {Describe(tensor)}", tensor, op);
    }

    private protected override Work BroadcastCore(Tensor tensor, int root) => Start(
        $"Broadcast of {Describe(tensor)} from {NameOf(root)}", "ncclBroadcast", Bytes(tensor),
        handle => _world.Nccl.Broadcast(Data(tensor), Data(tensor), Bytes(tensor), NcclType.UInt8, root, handle, _communicator.Stream), tensor);

    private protected override Work ReduceCore(Tensor tensor, int root, ReduceOp op)
    {
        NcclMapping.Require(op, tensor.dtype, Me, nameof(Reduce));
        using var scaled = Rank != root ? ScaledCopy(tensor, op) : null;
        if (scaled is null)
            ScaleInPlace(tensor, op);
        var source = scaled ?? tensor;
        return Start(
            $"Reduce({op}) of {Describe(tensor)} to {NameOf(root)}", "ncclReduce", Bytes(tensor),
            handle => _world.Nccl.Reduce(
                Data(source), Rank == root ? Data(tensor) : IntPtr.Zero, tensor.numel(), TypeOf(tensor), Reduction(_communicator, op, tensor.dtype), root, handle, _communicator.Stream),
            tensor, source);
    }

    private protected override Work AllGatherCore(Tensor output, Tensor input) => Start(
        $"AllGather of {Describe(input)}", "ncclAllGather", Bytes(input),
        handle => _world.Nccl.AllGather(Data(input), Data(output), Bytes(input), NcclType.UInt8, handle, _communicator.Stream), output, input);

    private protected override Work GatherCore(Tensor? output, Tensor input, int root)
    {
        var bytes = Bytes(input);
        return StartTogether($"Gather of {Describe(input)} to {NameOf(root)}", Transfers(), bytes > 0, output, input);

        IEnumerable<Transfer> Transfers()
        {
            if (output is null)
                yield return Transfer.To(root, Data(input), bytes);
            else
                foreach (var transfer in Enumerable.Range(0, Size).SelectMany(rank => Arriving(rank, Data(output) + (nint)(rank * bytes), bytes, Data(input))))
                    yield return transfer;
        }
    }

    private protected override Work ScatterCore(Tensor output, Tensor? input, int root)
    {
        var bytes = Bytes(output);
        return StartTogether($"Scatter of {Describe(output)} from {NameOf(root)}", Transfers(), bytes > 0, output, input);

        IEnumerable<Transfer> Transfers()
        {
            if (input is null)
                yield return Transfer.From(root, Data(output), bytes);
            else
                foreach (var transfer in Enumerable.Range(0, Size).SelectMany(rank => Departing(rank, Data(input) + (nint)(rank * bytes), bytes, Data(output))))
                    yield return transfer;
        }
    }

    private protected override Work ReduceScatterCore(Tensor output, Tensor input, ReduceOp op)
    {
        NcclMapping.Require(op, output.dtype, Me, nameof(ReduceScatter));
        using var scaled = ScaledCopy(input, op);
        var source = scaled ?? input;
        return Start(
            $"ReduceScatter({op}) of {Describe(output)}", "ncclReduceScatter", Bytes(output),
            handle => _world.Nccl.ReduceScatter(
                Data(source), Data(output), output.numel(), TypeOf(output), Reduction(_communicator, op, output.dtype), handle, _communicator.Stream),
            output, source);
    }

    private protected override Work AllToAllCore(Tensor output, Tensor input)
    {
        var counts = new long[Size];
        Array.Fill(counts, input.numel() / Size);
        return AllToAll($"AllToAll of {counts[0]} × {input.dtype} to each rank", output, counts, input, counts);
    }

    private protected override Work AllToAllCore(Tensor output, long[] outputCounts, Tensor input, long[] inputCounts)
    {
        var text = $"AllToAll of {input.dtype} with split sizes";
        _world.ThrowIfFailed();
        try
        {
            var number = _world.Line.CallForAnswer(_channel, text, MemoryMarshal.AsBytes<long>([.. inputCounts, .. outputCounts]));
            var sizes = MemoryMarshal.Cast<byte, long>(_world.Line.Answer(_channel, number, text, Timeout));
            RequireFit(sizes, input.dtype);
        }
        catch (DistributedException e)
        {
            throw _world.Fail(e);
        }

        return AllToAll(text, output, outputCounts, input, inputCounts);
    }

    private Work AllToAll(string text, Tensor output, long[] outputCounts, Tensor input, long[] inputCounts)
    {
        var size = input.dtype.SizeInBytes();
        return StartTogether(text, Transfers(), isNeeded: true, output, input);

        IEnumerable<Transfer> Transfers()
        {
            long sent = 0, received = 0;
            for (var rank = 0; rank < Size; rank++)
            {
                var (outgoing, incoming) = (inputCounts[rank] * size, outputCounts[rank] * size);
                if (outgoing > 0)
                    yield return Transfer.To(rank, Data(input) + (nint)sent, outgoing);
                if (incoming > 0)
                    yield return Transfer.From(rank, Data(output) + (nint)received, incoming);
                (sent, received) = (sent + outgoing, received + incoming);
            }
        }
    }

    private protected override Work SendCore(Tensor tensor, int destination, int tag) => _messages.Send(tensor, destination, tag);

    private protected override Work RecvCore(Tensor tensor, int source, int tag) => _messages.Receive(tensor, source, tag);

    /// <summary>A sum of one element: it is over when every rank's stream has come to it.</summary>
    private protected override Work BarrierCore()
    {
        _world.ThrowIfFailed();
        using (no_grad())
            _barrier ??= zeros(1, ScalarType.Int32, TensorDevice).DetachFromDisposeScope();
        return AllReduceOn(_communicator, _channel, nameof(Barrier), _barrier, ReduceOp.Max);
    }

    private protected override IReadOnlyList<int> MonitoredBarrierCore(TimeSpan timeout)
    {
        _world.ThrowIfFailed();
        var number = _world.Line.CallForAnswer(_channel, nameof(MonitoredBarrier), []);
        try
        {
            if (_world.Line.AnswerOrNull(_channel, number, nameof(MonitoredBarrier), timeout) is not null)
                return [];
        }
        catch (DistributedException e)
        {
            throw _world.Fail(e);
        }

        var missing = _world.Line.MissingFor(_channel, number);
        var late = _world.Fail(_world.Line.TimedOut(nameof(MonitoredBarrier), timeout, missing));
        return missing.Count > 0 ? missing : throw late; // they came a moment too late
    }

    private protected override ProcessGroup? NewGroupCore(int[] ranks, TimeSpan timeout)
    {
        var number = ++_groups;
        if (!ranks.Contains(Rank))
            return null;
        var child = Join(
            _world.Engine, _world.StoreFor(number), Array.IndexOf(ranks, Rank), [.. ranks.Select(rank => GlobalRanks[rank])], timeout, _world.DeviceIndex);
        _children.Add(new WeakReference<NcclProcessGroup>(child));
        return child;
    }

    public override void Abort(string reason)
    {
        _world.Line.Abort(reason);
        _world.Fail(new DistributedException($"{Me}: this rank has given the group up: {reason}"));
        foreach (var reference in _children)
            if (reference.TryGetTarget(out var child))
                child.Abort(reason);
    }

    /// <summary>With a communicator, a stream and channels of its own, so that reductions queue behind nothing of the user's.</summary>
    internal override GradientChannel CreateGradientChannel(string name, int exchangeBytes)
    {
        _world.ThrowIfFailed();
        var text = $"CreateGradientChannel of '{name}', {exchangeBytes} bytes";
        try
        {
            _world.Line.Answer(_channel, _world.Line.CallForAnswer(_channel, text, []), text, Timeout);
            var (buckets, control) = (_world.NextChannel(), _world.NextChannel());
            var communicator = new NcclCommunicator(_world, $"channel {buckets}", Rank, Size);
            return new DeviceGradientChannel(new NcclGradientTransport(_world, communicator, buckets, control, this), TensorDevice, name, exchangeBytes);
        }
        catch (DistributedException e)
        {
            throw _world.Fail(e);
        }
    }

    protected override void Dispose(bool disposing)
    {
        AppDomain.CurrentDomain.ProcessExit -= _atExit;
        AppDomain.CurrentDomain.UnhandledException -= _atCrash;
        _messages.Dispose();
        _world.Dispose();
        _barrier?.Dispose();
        _barrier = null;
    }

    /// <summary>In place, on any of the group's communicators.</summary>
    internal Work AllReduceOn(NcclCommunicator communicator, int channel, string text, Tensor tensor, ReduceOp op)
    {
        ScaleInPlace(tensor, op);
        return Start(communicator, channel, text, tensor.numel() == 0 ? null : () => communicator.Call("ncclAllReduce", text, handle => _world.Nccl.AllReduce(
            Data(tensor), Data(tensor), tensor.numel(), TypeOf(tensor), Reduction(communicator, op, tensor.dtype), handle, communicator.Stream)), [tensor]);
    }

    private NcclCollectiveWork Start(string text, string function, long bytes, Func<IntPtr, NcclResult> call, params ReadOnlySpan<Tensor?> tensors) =>
        Start(_communicator, _channel, text, bytes == 0 ? null : () => _communicator.Call(function, text, call), tensors);

    private NcclCollectiveWork StartTogether(string text, IEnumerable<Transfer> transfers, bool isNeeded, params ReadOnlySpan<Tensor?> tensors) =>
        Start(_communicator, _channel, text, isNeeded ? () => _communicator.CallTogether(text, transfers.Select(ToCall)) : null, tensors);

    private NcclCollectiveWork Start(NcclCommunicator communicator, int channel, string text, Action? launch, ReadOnlySpan<Tensor?> tensors)
    {
        lock (communicator.Order) // announced and begun in one order, whatever threads call
        {
            _world.ThrowIfFailed();
            var number = Announce(channel, text);
            var work = new NcclCollectiveWork(_world, channel, number, text, tensors);
            try
            {
                communicator.Begin(work, launch);
                return work;
            }
            catch (DistributedException)
            {
                work.Abandon();
                throw;
            }
        }
    }

    private long Announce(int channel, string text)
    {
        if (!_checksBefore)
            return _world.Line.Call(channel, text);
        try
        {
            var number = _world.Line.CallForAnswer(channel, text, []);
            _world.Line.Answer(channel, number, text, Timeout);
            return number;
        }
        catch (DistributedException e)
        {
            throw _world.Fail(e);
        }
    }

    private (string Function, Func<IntPtr, NcclResult> Call) ToCall(Transfer transfer) => transfer.IsOutgoing
        ? ("ncclSend", handle => _world.Nccl.Send(transfer.Data, transfer.Bytes, NcclType.UInt8, transfer.Peer, handle, _communicator.Stream))
        : ("ncclRecv", handle => _world.Nccl.Receive(transfer.Data, transfer.Bytes, NcclType.UInt8, transfer.Peer, handle, _communicator.Stream));

    /// <summary>What the root does to get a rank's part: its own comes from itself, unless it lies there already.</summary>
    private IEnumerable<Transfer> Arriving(int rank, IntPtr place, long bytes, IntPtr own)
    {
        if (rank == Rank && place == own)
            yield break;
        if (rank == Rank)
            yield return Transfer.To(rank, own, bytes);
        yield return Transfer.From(rank, place, bytes);
    }

    private IEnumerable<Transfer> Departing(int rank, IntPtr place, long bytes, IntPtr own)
    {
        if (rank == Rank && place == own)
            yield break;
        yield return Transfer.To(rank, place, bytes);
        if (rank == Rank)
            yield return Transfer.From(rank, own, bytes);
    }

    private void RequireFit(ReadOnlySpan<long> sizes, ScalarType type)
    {
        for (var from = 0; from < Size; from++)
            for (var to = 0; to < Size; to++)
            {
                var (sent, expected) = (sizes[from * 2 * Size + to], sizes[to * 2 * Size + Size + from]);
                if (sent != expected)
                    throw new CollectiveMismatchException(
                        $"{Me}: AllToAll: {NameOf(from)} sends {sent} × {type} to {NameOf(to)}, which expects {expected}. Each rank's output splits must be what the others' input splits say.");
            }
    }

    private int Reduction(NcclCommunicator communicator, ReduceOp op, ScalarType type)
    {
        if (op.Operation != ReduceOp.Kind.PreMulSum)
            return (int)NcclMapping.ReductionOf(op, type)!.Value;
        return _world.Nccl.HasPreMulSum ? communicator.PreMulSum(op.Factor, type) : (int)NcclReduction.Sum;
    }

    /// <summary>Where NCCL cannot multiply on the way: before, on libtorch's stream.</summary>
    private void ScaleInPlace(Tensor tensor, ReduceOp op)
    {
        if (op.Operation != ReduceOp.Kind.PreMulSum || _world.Nccl.HasPreMulSum)
            return;
        using var gradientsOff = no_grad();
        using TorchSharp.Scalar factor = op.Factor;
        tensor.mul_(factor);
    }

    private Tensor? ScaledCopy(Tensor tensor, ReduceOp op)
    {
        if (op.Operation != ReduceOp.Kind.PreMulSum || _world.Nccl.HasPreMulSum)
            return null;
        using var gradientsOff = no_grad();
        using TorchSharp.Scalar factor = op.Factor;
        return tensor.mul(factor).DetachFromDisposeScope();
    }

    private static string Describe(Tensor tensor) => $"{tensor.numel()} × {tensor.dtype}";

    private static long Bytes(Tensor tensor) => tensor.numel() * tensor.dtype.SizeInBytes();

    private static NcclType TypeOf(Tensor tensor) => NcclMapping.TypeOf(tensor.dtype)!.Value;

    private static IntPtr Data(Tensor tensor) => tensor.numel() == 0 ? IntPtr.Zero : TensorMemory.PointerOf(tensor);

    /// <summary>One half of a transfer between two ranks.</summary>
    private readonly record struct Transfer(bool IsOutgoing, int Peer, IntPtr Data, long Bytes)
    {
        public static Transfer To(int peer, IntPtr data, long bytes) => new(true, peer, data, bytes);

        public static Transfer From(int peer, IntPtr data, long bytes) => new(false, peer, data, bytes);
    }
}
