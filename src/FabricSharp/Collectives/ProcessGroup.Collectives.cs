using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>The operations: arguments are checked here, once for all back ends; tensors with strides are brought into line here.</summary>
public abstract partial class ProcessGroup
{
    /// <summary>
    /// Combines the tensors of all ranks element by element; every rank's tensor gets the result, bitwise equal on all. In place. Collective.
    /// </summary>
    /// <param name="tensor">Same data type and element count on every rank; any strides; may be empty.</param>
    /// <param name="op">
    /// How elements are combined. Booleans: Sum and Max are "or", Product and Min are "and". <value>Default <see cref="ReduceOp.Sum"/>.</value>
    /// </param>
    /// <exception cref="ArgumentException">The operation is not defined for the type, or the tensor is not on the group's kind of device.</exception>
    public Work AllReduce(Tensor tensor, ReduceOp? op = null)
    {
        var reduce = op ?? ReduceOp.Sum;
        var call = Call(nameof(AllReduce));
        call.RequireTensor(tensor, nameof(tensor));
        call.RequireReduction(reduce, tensor.dtype);
        return tensor.is_contiguous() ? AllReduceCore(tensor, reduce) : AllReduceStaged(tensor, reduce);
    }

    /// <summary>Apart, so that the usual case makes no closure.</summary>
    private Work AllReduceStaged(Tensor tensor, ReduceOp op) => StagedWork.Start(tensor, copyBack: true, flat => AllReduceCore(flat, op));

    /// <summary>Overwrites <paramref name="tensor"/> on every rank with rank <paramref name="root"/>'s. Collective.</summary>
    /// <param name="tensor">Same data type and element count on every rank; any strides.</param>
    /// <param name="root">The rank that gives its tensor.</param>
    /// <exception cref="ArgumentOutOfRangeException">The root is no rank of the group.</exception>
    public Work Broadcast(Tensor tensor, int root)
    {
        var call = Call(nameof(Broadcast));
        call.RequireTensor(tensor, nameof(tensor));
        call.RequireRank(root, nameof(root));
        return tensor.is_contiguous() ? BroadcastCore(tensor, root) : StagedWork.Start(tensor, copyBack: Rank != root, flat => BroadcastCore(flat, root));
    }

    /// <summary>
    /// Combines the tensors of all ranks element by element; rank <paramref name="root"/>'s tensor gets the result, the others' keep theirs. Collective.
    /// </summary>
    /// <param name="tensor">Same data type and element count on every rank; any strides.</param>
    /// <param name="root">The rank that gets the result.</param>
    /// <param name="op">As in <see cref="AllReduce"/>. <value>Default <see cref="ReduceOp.Sum"/>.</value></param>
    public Work Reduce(Tensor tensor, int root, ReduceOp? op = null)
    {
        var reduce = op ?? ReduceOp.Sum;
        var call = Call(nameof(Reduce));
        call.RequireTensor(tensor, nameof(tensor));
        call.RequireRank(root, nameof(root));
        call.RequireReduction(reduce, tensor.dtype);
        return tensor.is_contiguous() ? ReduceCore(tensor, root, reduce) : StagedWork.Start(tensor, copyBack: Rank == root, flat => ReduceCore(flat, root, reduce));
    }

    /// <summary>Collects every rank's <paramref name="input"/>; rank r's lands in <c>output[r]</c> on every rank. Collective.</summary>
    /// <param name="output">Contiguous, of shape (size, …shape of input) or any other of as many elements, same data type.</param>
    /// <param name="input">Same data type and element count on every rank; any strides. May be this rank's own part of <paramref name="output"/>.</param>
    public Work AllGather(Tensor output, Tensor input)
    {
        var call = Call(nameof(AllGather));
        call.RequireTensor(input, nameof(input));
        call.RequireWhole(output, nameof(output), input, nameof(input));
        call.RequireApart(output, input, Rank * input.numel());
        return input.is_contiguous() ? AllGatherCore(output, input) : StagedWork.Start(input, copyBack: false, flat => AllGatherCore(output, flat));
    }

    /// <summary>Collects every rank's <paramref name="input"/> on rank <paramref name="root"/>; rank r's lands in <c>output[r]</c>. Collective.</summary>
    /// <param name="output">On the root: as in <see cref="AllGather"/>. On the others not looked at: null.</param>
    /// <param name="input">Same data type and element count on every rank; any strides.</param>
    /// <param name="root">The rank that collects.</param>
    public Work Gather(Tensor? output, Tensor input, int root)
    {
        var call = Call(nameof(Gather));
        call.RequireTensor(input, nameof(input));
        call.RequireRank(root, nameof(root));
        var whole = Rank == root ? output : null;
        if (Rank == root)
        {
            call.RequireWhole(output, nameof(output), input, nameof(input));
            call.RequireApart(output!, input, Rank * input.numel());
        }

        return input.is_contiguous() ? GatherCore(whole, input, root) : StagedWork.Start(input, copyBack: false, flat => GatherCore(whole, flat, root));
    }

    /// <summary>Distributes rank <paramref name="root"/>'s <paramref name="input"/>: rank r gets <c>input[r]</c>. Collective.</summary>
    /// <param name="output">Contiguous; same data type and element count on every rank.</param>
    /// <param name="input">On the root: of shape (size, …shape of output) or any other of as many elements, any strides. On the others not looked at: null.</param>
    /// <param name="root">The rank that distributes.</param>
    public Work Scatter(Tensor output, Tensor? input, int root)
    {
        var call = Call(nameof(Scatter));
        call.RequireTensor(output, nameof(output));
        call.RequireContiguous(output, nameof(output));
        call.RequireRank(root, nameof(root));
        if (Rank != root)
            return ScatterCore(output, null, root);
        call.RequireParts(input, nameof(input), output, nameof(output));
        call.RequireApart(input!, output, Rank * output.numel());
        return input!.is_contiguous() ? ScatterCore(output, input, root) : StagedWork.Start(input, copyBack: false, flat => ScatterCore(output, flat, root));
    }

    /// <summary>
    /// Combines the ranks' <paramref name="input"/> element by element and leaves part r of the result with rank r. Collective.
    /// </summary>
    /// <param name="output">Contiguous; same data type and element count on every rank. May be this rank's own part of <paramref name="input"/>.</param>
    /// <param name="input">Of shape (size, …shape of output) or any other of as many elements; any strides.</param>
    /// <param name="op">As in <see cref="AllReduce"/>. <value>Default <see cref="ReduceOp.Sum"/>.</value></param>
    public Work ReduceScatter(Tensor output, Tensor input, ReduceOp? op = null)
    {
        var reduce = op ?? ReduceOp.Sum;
        var call = Call(nameof(ReduceScatter));
        call.RequireTensor(output, nameof(output));
        call.RequireContiguous(output, nameof(output));
        call.RequireParts(input, nameof(input), output, nameof(output));
        call.RequireReduction(reduce, output.dtype);
        call.RequireApart(input, output, Rank * output.numel());
        return input.is_contiguous() ? ReduceScatterCore(output, input, reduce) : StagedWork.Start(input, copyBack: false, flat => ReduceScatterCore(output, flat, reduce));
    }

    /// <summary>
    /// Every rank sends part r of its <paramref name="input"/> to rank r, and finds what rank r sent to it in part r of its
    /// <paramref name="output"/>. Parts are equal pieces of the first dimension. Collective.
    /// </summary>
    /// <param name="output">Contiguous; as many elements as <paramref name="input"/>, same data type, another memory.</param>
    /// <param name="input">First dimension a multiple of the number of ranks; same data type and element count on every rank; any strides.</param>
    public Work AllToAll(Tensor output, Tensor input)
    {
        var call = Call(nameof(AllToAll));
        call.RequireTensor(input, nameof(input));
        call.RequireTensor(output, nameof(output));
        call.RequireContiguous(output, nameof(output));
        call.RequireSameType(output, nameof(output), input, nameof(input));
        call.RequireEqualParts(input, nameof(input));
        call.RequireEqualParts(output, nameof(output));
        call.RequireElements(output, nameof(output), input.numel(), $"as many as {nameof(input)}");
        call.RequireApart(output, input, null);
        return input.is_contiguous() ? AllToAllCore(output, input) : StagedWork.Start(input, copyBack: false, flat => AllToAllCore(output, flat));
    }

    /// <summary>
    /// <see cref="AllToAll(Tensor, Tensor)"/> with parts of any size: <c>inputSplits[r]</c> rows go to rank r, <c>outputSplits[r]</c> come from it.
    /// Collective; the call itself waits until the ranks know each other's sizes.
    /// </summary>
    /// <param name="output">Contiguous, another memory than <paramref name="input"/>; its rows (all dimensions but the first) have as many elements as the input's.</param>
    /// <param name="outputSplits">One number of rows for each rank, in all the first dimension of <paramref name="output"/>; each equals what that rank sends.</param>
    /// <param name="input">Same data type and row on every rank; any strides.</param>
    /// <param name="inputSplits">One number of rows for each rank, in all the first dimension of <paramref name="input"/>.</param>
    /// <exception cref="CollectiveMismatchException">Some rank sends another number of elements than its receiver expects; on every rank.</exception>
    public Work AllToAll(Tensor output, IReadOnlyList<long> outputSplits, Tensor input, IReadOnlyList<long> inputSplits)
    {
        var call = Call(nameof(AllToAll));
        call.RequireTensor(input, nameof(input));
        call.RequireTensor(output, nameof(output));
        call.RequireContiguous(output, nameof(output));
        call.RequireSameType(output, nameof(output), input, nameof(input));
        var incoming = call.RequireSplits(output, nameof(output), outputSplits, nameof(outputSplits));
        var outgoing = call.RequireSplits(input, nameof(input), inputSplits, nameof(inputSplits));
        call.RequireSameRows(output, nameof(output), input, nameof(input));
        call.RequireApart(output, input, null);
        return input.is_contiguous()
            ? AllToAllCore(output, incoming, input, outgoing)
            : StagedWork.Start(input, copyBack: false, flat => AllToAllCore(output, incoming, flat, outgoing));
    }

    /// <summary>
    /// Sends a tensor to one rank, which calls <see cref="Recv"/>. Not collective. Over when the receiver has asked for it and the tensor may be
    /// changed again: two ranks that both wait for a send before they receive wait for each other.
    /// </summary>
    /// <param name="tensor">Any strides.</param>
    /// <param name="destination">Another rank.</param>
    /// <param name="tag">From 0. Messages of one tag arrive in the order in which they were sent; those of different tags may be received in any.</param>
    /// <exception cref="CollectiveMismatchException">The receiver expects another data type or element count; on both ranks.</exception>
    public Work Send(Tensor tensor, int destination, int tag = 0)
    {
        var call = Call(nameof(Send));
        call.RequireTensor(tensor, nameof(tensor));
        call.RequirePeer(destination, nameof(destination));
        call.RequireTag(tag);
        return tensor.is_contiguous() ? SendCore(tensor, destination, tag) : StagedWork.Start(tensor, copyBack: false, flat => SendCore(flat, destination, tag));
    }

    /// <summary>Receives a tensor that rank <paramref name="source"/> sends with <see cref="Send"/>. Not collective.</summary>
    /// <param name="tensor">Is overwritten; data type and element count as sent; any strides.</param>
    /// <param name="source">Another rank.</param>
    /// <param name="tag">As sent.</param>
    /// <exception cref="CollectiveMismatchException">The sender's data type or element count is another; on both ranks.</exception>
    public Work Recv(Tensor tensor, int source, int tag = 0)
    {
        var call = Call(nameof(Recv));
        call.RequireTensor(tensor, nameof(tensor));
        call.RequirePeer(source, nameof(source));
        call.RequireTag(tag);
        return tensor.is_contiguous() ? RecvCore(tensor, source, tag) : StagedWork.Start(tensor, copyBack: true, flat => RecvCore(flat, source, tag));
    }

    /// <summary>Is over when every rank has called it. Collective.</summary>
    public Work Barrier() => BarrierCore();

    /// <summary>
    /// Returns when every rank has called it, or throws an exception that names the ranks that did not come: to find out which rank hangs, where
    /// <see cref="Barrier"/> would only wait. Collective. Follows PyTorch's <c>monitored_barrier</c>.
    /// </summary>
    /// <param name="timeout">How long to wait for the other ranks. <value>Default: the group's time-out.</value></param>
    /// <param name="waitAllRanks">Whether all missing ranks are named, not only the first. <value>Default false.</value></param>
    /// <exception cref="DistributedTimeoutException">Some rank did not come in time. The group is unusable afterwards.</exception>
    public void MonitoredBarrier(TimeSpan? timeout = null, bool waitAllRanks = false)
    {
        var limit = timeout ?? Timeout;
        if (limit < TimeSpan.Zero)
            throw new ArgumentOutOfRangeException(nameof(timeout), timeout, $"{Me}: MonitoredBarrier: the limit must not be negative.");
        var missing = MonitoredBarrierCore(limit);
        if (missing.Count == 0)
            return;
        var named = waitAllRanks ? missing : [missing[0]];
        throw new DistributedTimeoutException(
            $"{Me}: Ranks {string.Join(", ", named.Select(rank => NameOf(rank)["rank ".Length..]))} failed to pass monitoredBarrier in {limit.TotalMilliseconds:0} ms. " +
            "They hang, are slow, ended, or took another branch: look at their output and at what they do now (for a process: dotnet-stack report -p PID). " +
            "If they are only slow, give the barrier a longer timeout." +
            (named.Count < missing.Count ? " (There are more such ranks; waitAllRanks: true names all.)" : ""));
    }
}
