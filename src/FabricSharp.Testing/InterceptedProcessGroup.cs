using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Testing;

/// <summary>A group that does what another does, and tells of each call before it is made.</summary>
internal sealed class InterceptedProcessGroup(ProcessGroup inner, CallCounter counter, Action<GroupCall, ProcessGroup> before) : ProcessGroup
{
    public override int Rank => inner.Rank;

    public override int Size => inner.Size;

    public override string Backend => inner.Backend;

    public override TimeSpan Timeout => inner.Timeout;

    public override IReadOnlyList<int> GlobalRanks => inner.GlobalRanks;

    internal override Device TensorDevice => inner.TensorDevice;

    internal override void Progress() => inner.Progress();

    public override void Abort(string reason) => inner.Abort(reason);

    internal override GradientChannel CreateGradientChannel(string name, int exchangeBytes) => new InterceptedGradientChannel(inner.CreateGradientChannel(name, exchangeBytes), Call);

    private protected override Work AllReduceCore(Tensor tensor, ReduceOp op)
    {
        Call(GroupOperation.AllReduce, tensor, reduction: op);
        return inner.AllReduce(tensor, op);
    }

    private protected override Work BroadcastCore(Tensor tensor, int root)
    {
        Call(GroupOperation.Broadcast, tensor, root);
        return inner.Broadcast(tensor, root);
    }

    private protected override Work ReduceCore(Tensor tensor, int root, ReduceOp op)
    {
        Call(GroupOperation.Reduce, tensor, root, op);
        return inner.Reduce(tensor, root, op);
    }

    private protected override Work AllGatherCore(Tensor output, Tensor input)
    {
        Call(GroupOperation.AllGather, input);
        return inner.AllGather(output, input);
    }

    private protected override Work GatherCore(Tensor? output, Tensor input, int root)
    {
        Call(GroupOperation.Gather, input, root);
        return inner.Gather(output, input, root);
    }

    private protected override Work ScatterCore(Tensor output, Tensor? input, int root)
    {
        Call(GroupOperation.Scatter, input ?? output, root);
        return inner.Scatter(output, input, root);
    }

    private protected override Work ReduceScatterCore(Tensor output, Tensor input, ReduceOp op)
    {
        Call(GroupOperation.ReduceScatter, input, reduction: op);
        return inner.ReduceScatter(output, input, op);
    }

    private protected override Work AllToAllCore(Tensor output, Tensor input)
    {
        Call(GroupOperation.AllToAll, input);
        return inner.AllToAll(output, input);
    }

    /// <summary>The counts are elements here: flat tensors have rows of one.</summary>
    private protected override Work AllToAllCore(Tensor output, long[] outputCounts, Tensor input, long[] inputCounts)
    {
        Call(GroupOperation.AllToAll, input);
        using var gradientsOff = no_grad();
        return inner.AllToAll(output.view(-1).DetachFromDisposeScope(), outputCounts, input.view(-1).DetachFromDisposeScope(), inputCounts); // held by the work
    }

    private protected override Work SendCore(Tensor tensor, int destination, int tag)
    {
        Call(GroupOperation.Send, tensor, destination);
        return inner.Send(tensor, destination, tag);
    }

    private protected override Work RecvCore(Tensor tensor, int source, int tag)
    {
        Call(GroupOperation.Recv, tensor, source);
        return inner.Recv(tensor, source, tag);
    }

    private protected override Work BarrierCore()
    {
        Call(GroupOperation.Barrier);
        return inner.Barrier();
    }

    private protected override IReadOnlyList<int> MonitoredBarrierCore(TimeSpan timeout)
    {
        Call(GroupOperation.MonitoredBarrier);
        inner.MonitoredBarrier(timeout, waitAllRanks: true);
        return [];
    }

    private protected override ProcessGroup? NewGroupCore(int[] ranks, TimeSpan timeout)
    {
        Call(GroupOperation.NewGroup);
        return inner.NewGroup(ranks, timeout) is { } child ? new InterceptedProcessGroup(child, counter, before) : null;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
            inner.Dispose();
    }

    private void Call(GroupOperation operation, Tensor? tensor = null, int? peer = null, ReduceOp? reduction = null) =>
        Call(new GroupCall(0, operation) { Type = tensor?.dtype, Elements = tensor?.numel() ?? 0, Peer = peer, Reduction = reduction });

    private void Call(GroupCall call) => before(call with { Number = counter.Next(), Ranks = inner.GlobalRanks }, inner);
}
