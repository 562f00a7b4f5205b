using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>
/// What a gradient reducer needs of its ranks, apart from the user's own collectives: memory for buckets, an ordered queue of bucket
/// reductions, and a control exchange that does not queue behind them.
/// </summary>
internal abstract class GradientChannel : IDisposable
{
    /// <summary>Whether buckets lie in the memory of a device: their addresses may be compared, but neither read nor written here.</summary>
    public virtual bool NeedsTensors => false;

    /// <summary>Makes the memory of one bucket. Collective.</summary>
    public abstract GradientBuffer Allocate(long bytes);

    /// <summary>
    /// Queues the averaging of a piece of a bucket: each rank's elements times <paramref name="scale"/>, summed, to every rank.
    /// Local: never waits, so that it may be called from a hook. Reductions are matched across ranks by their order.
    /// </summary>
    public abstract Work Reduce(GradientBuffer buffer, long byteOffset, long elementCount, ScalarType type, double scale);

    /// <summary>Makes memory for large gradients, one place and a little more for each. Collective, with equal sizes on every rank.</summary>
    /// <param name="bytes">For each owner the size of its gradient; 0 for none.</param>
    /// <returns>Null where this channel has no such memory, on every rank alike.</returns>
    public virtual GradientPool? CreatePool(IReadOnlyList<long> bytes) => null;

    /// <summary>
    /// Queues the averaging of a gradient where it lies, as <see cref="Reduce"/> does for a piece of a bucket. Local.
    /// </summary>
    /// <param name="pool">Made by <see cref="CreatePool"/>.</param>
    /// <param name="owner">Whose gradient: the same on every rank.</param>
    /// <param name="data">Where it lies on this rank.</param>
    /// <param name="elementCount">Number of elements.</param>
    /// <param name="type">Their type.</param>
    /// <param name="scale">What each rank's elements are multiplied by.</param>
    public virtual Work ReduceInPlace(GradientPool pool, int owner, IntPtr data, long elementCount, ScalarType type, double scale) =>
        throw new NotSupportedException("This channel has no pool.");

    /// <summary>Does whatever part of the queued reductions can be done now. Local: never waits.</summary>
    public abstract void Progress();

    /// <summary>
    /// Gives every rank's small message to every rank. Collective; queued bucket reductions go on meanwhile, and need not be over.
    /// </summary>
    /// <param name="mine">At most the number of bytes agreed at creation, the same number on every rank.</param>
    /// <param name="all">Receives rank r's message at r × <c>mine.Length</c>.</param>
    /// <param name="timeout">The limit. <value>Default: the group's.</value></param>
    public abstract void Exchange(ReadOnlySpan<byte> mine, Span<byte> all, TimeSpan? timeout = null);

    /// <summary>Tells the other ranks that this one cannot go on. Local.</summary>
    public abstract void Abort(string reason);

    /// <summary>Releases the channel; reductions that are still queued are given up. Local.</summary>
    public abstract void Dispose();
}

/// <summary>The memory of one bucket on this rank.</summary>
internal abstract class GradientBuffer : IDisposable
{
    public abstract IntPtr Pointer { get; }

    public abstract long Bytes { get; }

    /// <summary>
    /// A flat tensor over the memory, which stays valid as long as a tensor that shares its storage exists, also after
    /// <see cref="Dispose"/>. To be called once.
    /// </summary>
    public abstract Tensor AsTensor(ScalarType type);

    public abstract void Dispose();
}
