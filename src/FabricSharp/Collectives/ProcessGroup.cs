using FabricSharp.Collectives.SharedMemory;
using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>
/// A set of ranks that exchange tensors. Every operation is <b>collective</b>: all ranks of the group call it, in the same order, with
/// the same data type and element count; ranks that diverge get <see cref="CollectiveMismatchException"/> instead of wrong numbers.
/// An operation is started by the call and is over when the returned <see cref="Work"/> is.
/// After a failure the group refuses further work with the first cause.
/// </summary>
public abstract class ProcessGroup : IDisposable
{
    /// <summary>How long an operation waits for the other ranks unless told otherwise, as in PyTorch: 30 minutes.</summary>
    public static readonly TimeSpan DefaultTimeout = TimeSpan.FromMinutes(30);

    /// <summary>The names of the back ends that <see cref="Create"/> knows.</summary>
    public static IReadOnlyList<string> Backends { get; } = ["shm"];

    /// <summary>This process's number within the group, from 0.</summary>
    public abstract int Rank { get; }

    /// <summary>The number of ranks.</summary>
    public abstract int Size { get; }

    /// <summary>The name of the back end, for example <c>shm</c>.</summary>
    public abstract string Backend { get; }

    /// <summary>The limit of each wait of this group.</summary>
    public abstract TimeSpan Timeout { get; }

    /// <summary>Joins a group. Collective: returns when all <paramref name="size"/> ranks have joined.</summary>
    /// <param name="backend"><c>shm</c>: the ranks of one machine, CPU tensors, shared memory.</param>
    /// <param name="store">Where the ranks meet; the same on all of them, with keys that no other group uses (see <see cref="PrefixStore"/>).</param>
    /// <param name="rank">This rank, 0 ≤ rank &lt; size.</param>
    /// <param name="size">The number of ranks.</param>
    /// <param name="timeout">Limit of joining and of each later wait. <value>Default <see cref="DefaultTimeout"/>.</value></param>
    /// <exception cref="ArgumentException">An unknown back end or an impossible rank.</exception>
    /// <exception cref="DistributedTimeoutException">Some rank did not come in time; the message says which.</exception>
    public static ProcessGroup Create(string backend, Store store, int rank, int size, TimeSpan? timeout = null)
    {
        ArgumentNullException.ThrowIfNull(store);
        if (size < 1 || rank < 0 || rank >= size)
            throw new ArgumentException($"A group of {size} ranks cannot have a rank {rank}: ranks go from 0 to size - 1.", nameof(rank));
        return backend switch
        {
            "shm" => SharedMemoryProcessGroup.Join(store, rank, size, timeout ?? DefaultTimeout),
            _ => throw new ArgumentException($"Unknown process-group back end '{backend}'. Available: {string.Join(", ", Backends)}.", nameof(backend)),
        };
    }

    /// <summary>Combines the tensors of all ranks element by element; every rank's tensor gets the result, bitwise equal on all. In place.</summary>
    /// <param name="tensor">Same data type and element count on every rank; any strides; may be empty.</param>
    /// <param name="op">How elements are combined. <value>Default <see cref="ReduceOp.Sum"/>.</value></param>
    public abstract Work AllReduce(Tensor tensor, ReduceOp? op = null);

    /// <summary>Overwrites <paramref name="tensor"/> on every rank with rank <paramref name="root"/>'s.</summary>
    public abstract Work Broadcast(Tensor tensor, int root);

    /// <summary>Collects every rank's <paramref name="input"/>; rank r's lands in <c>output[r]</c> on every rank.</summary>
    /// <param name="output">Contiguous, of shape (size, …shape of input), same data type.</param>
    /// <param name="input">Same shape on every rank.</param>
    public abstract Work AllGather(Tensor output, Tensor input);

    /// <summary>Is over when every rank has called it.</summary>
    public abstract Work Barrier();

    /// <summary>
    /// Tells the other ranks that this one cannot go on, so that their pending operations end with <see cref="PeerFailedException"/>.
    /// Local; the group is unusable afterwards.
    /// </summary>
    /// <param name="reason">What happened; shown on the other ranks.</param>
    public abstract void Abort(string reason);

    /// <summary>Makes the communication of one gradient reducer. Collective.</summary>
    /// <param name="name">Names the reducer in errors.</param>
    /// <param name="exchangeBytes">Largest message of <see cref="GradientChannel.Exchange"/>, per rank.</param>
    internal abstract GradientChannel CreateGradientChannel(string name, int exchangeBytes);

    /// <summary>Leaves the group. Local; ranks that still wait for this one get <see cref="PeerFailedException"/>.</summary>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases what the group holds.</summary>
    protected abstract void Dispose(bool disposing);
}
