using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>
/// What a back end does. Arguments are checked, tensors are contiguous, strided and on the group's kind of device. A core starts the operation
/// without waiting for other ranks (but where it says otherwise) and holds its tensors until its work is over.
/// </summary>
public abstract partial class ProcessGroup
{
    /// <summary>Where tensors of this group live, and where it puts its own.</summary>
    internal virtual Device TensorDevice => CPU;

    /// <summary>In place, the same bits on every rank.</summary>
    private protected abstract Work AllReduceCore(Tensor tensor, ReduceOp op);

    private protected abstract Work BroadcastCore(Tensor tensor, int root);

    /// <summary>The result goes into the root's tensor; the others' stay as they are.</summary>
    private protected abstract Work ReduceCore(Tensor tensor, int root, ReduceOp op);

    /// <summary><paramref name="output"/> has <see cref="Size"/> × the elements of <paramref name="input"/>, which may be this rank's part of it.</summary>
    private protected abstract Work AllGatherCore(Tensor output, Tensor input);

    /// <summary><paramref name="output"/> is null on every rank but the root.</summary>
    private protected abstract Work GatherCore(Tensor? output, Tensor input, int root);

    /// <summary><paramref name="input"/> is null on every rank but the root.</summary>
    private protected abstract Work ScatterCore(Tensor output, Tensor? input, int root);

    private protected abstract Work ReduceScatterCore(Tensor output, Tensor input, ReduceOp op);

    /// <summary>Equal parts.</summary>
    private protected abstract Work AllToAllCore(Tensor output, Tensor input);

    /// <summary>Parts in elements, one for each rank. May wait for the ranks to exchange their sizes.</summary>
    private protected abstract Work AllToAllCore(Tensor output, long[] outputCounts, Tensor input, long[] inputCounts);

    /// <summary>To another rank.</summary>
    private protected abstract Work SendCore(Tensor tensor, int destination, int tag);

    /// <summary>From another rank.</summary>
    private protected abstract Work RecvCore(Tensor tensor, int source, int tag);

    private protected abstract Work BarrierCore();

    /// <summary>Waits until every rank has come or the limit has passed; returns those that have not, in order.</summary>
    private protected abstract IReadOnlyList<int> MonitoredBarrierCore(TimeSpan timeout);

    /// <summary>Collective; the ranks agree on the list. Null where this rank is not in it.</summary>
    private protected abstract ProcessGroup? NewGroupCore(int[] ranks, TimeSpan timeout);
}
