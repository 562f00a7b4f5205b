using FabricSharp.Collectives.Mpi;
using FabricSharp.Collectives.Nccl;
using FabricSharp.Collectives.SharedMemory;

namespace FabricSharp.Collectives;

/// <summary>
/// A set of ranks that exchange tensors. Every operation but <see cref="Send"/> and <see cref="Recv"/> is <b>collective</b>: all ranks of the
/// group call it, in the same order, with the same data type and element count; ranks that diverge get
/// <see cref="CollectiveMismatchException"/> instead of wrong numbers.
/// An operation is started by the call and is over when the returned <see cref="Work"/> is.
/// Arguments that cannot be right are refused by the call, on this rank only and before anything is sent: the group stays usable.
/// After a failure the group refuses further work with the first cause.
/// </summary>
public abstract partial class ProcessGroup : IDisposable
{
    /// <summary>How long an operation waits for the other ranks unless told otherwise, as in PyTorch: 30 minutes.</summary>
    public static readonly TimeSpan DefaultTimeout = TimeSpan.FromMinutes(30);

    /// <summary>The names of the back ends that <see cref="Create"/> knows.</summary>
    public static IReadOnlyList<string> Backends { get; } = ["shm", "mpi", "nccl"];

    /// <summary>This process's number within the group, from 0.</summary>
    public abstract int Rank { get; }

    /// <summary>The number of ranks.</summary>
    public abstract int Size { get; }

    /// <summary>The name of the back end, for example <c>shm</c>.</summary>
    public abstract string Backend { get; }

    /// <summary>The limit of each wait of this group.</summary>
    public abstract TimeSpan Timeout { get; }

    /// <summary>
    /// For each rank of the group its number in the outermost group, from which it was made with <see cref="NewGroup"/> (perhaps over several
    /// steps); 0, 1, 2, … in that group itself.
    /// </summary>
    public virtual IReadOnlyList<int> GlobalRanks => [.. Enumerable.Range(0, Size)];

    /// <summary>Joins a group. Collective: returns when all <paramref name="size"/> ranks have joined.</summary>
    /// <param name="backend">
    /// <c>shm</c>: the ranks of one machine, CPU tensors, shared memory. <c>mpi</c>: the ranks that <c>mpirun</c> started, on any number of machines,
    /// CPU tensors; <paramref name="rank"/> and <paramref name="size"/> are those of MPI. <c>nccl</c>: GPUs of one machine or several, through NVIDIA's
    /// NCCL; sums are not combined in the order of the ranks, and there is no arithmetic for Int16 and no bitwise reduction.
    /// </param>
    /// <param name="store">
    /// Where the ranks meet; the same on all of them, with keys that no other group uses (see <see cref="PrefixStore"/>). The ranks of <c>mpi</c> meet
    /// through MPI itself and leave it alone: any store will do.
    /// </param>
    /// <param name="rank">This rank, 0 ≤ rank &lt; size.</param>
    /// <param name="size">The number of ranks.</param>
    /// <param name="timeout">Limit of joining and of each later wait. <value>Default <see cref="DefaultTimeout"/>.</value></param>
    /// <param name="device">
    /// For <c>nccl</c>: the number of this rank's GPU, each GPU once in a group. <value>Default null: the rank's place among the ranks of its machine, or the
    /// only GPU that the process sees.</value>
    /// </param>
    /// <exception cref="ArgumentException">An unknown back end or an impossible rank; with <c>mpi</c>, another rank or size than MPI's.</exception>
    /// <exception cref="DistributedTimeoutException">Some rank did not come in time; the message says which.</exception>
    /// <exception cref="DistributedException">The machine lacks what the back end needs, or two ranks would share a GPU; the message says which.</exception>
    public static ProcessGroup Create(string backend, Store store, int rank, int size, TimeSpan? timeout = null, int? device = null)
    {
        ArgumentNullException.ThrowIfNull(store);
        if (size < 1 || rank < 0 || rank >= size)
            throw new ArgumentException($"A group of {size} ranks cannot have a rank {rank}: ranks go from 0 to size - 1.", nameof(rank));
        return backend switch
        {
            "mpi" => MpiProcessGroup.Join(rank, size, timeout ?? DefaultTimeout),
            "shm" => SharedMemoryProcessGroup.Join(store, rank, size, timeout ?? DefaultTimeout),
            "nccl" => NcclProcessGroup.Join(NcclEngine.Loaded, store, rank, size, timeout ?? DefaultTimeout, device),
            _ => throw new ArgumentException($"Unknown process-group back end '{backend}'. Available: {string.Join(", ", Backends)}.", nameof(backend)),
        };
    }

    /// <summary>
    /// Makes a group of some of this group's ranks. Collective over <b>this</b> group: every rank of it calls, members or not, with the same list.
    /// Groups without a common rank work at the same time; groups of groups can be made. Dispose it before this group.
    /// </summary>
    /// <param name="ranks">Ranks of this group, each once; <c>ranks[r]</c> becomes rank r of the new group.</param>
    /// <param name="timeout">Limit of each wait of the new group. <value>Default: this group's.</value></param>
    /// <returns>The new group for its members, null for the others.</returns>
    /// <exception cref="ArgumentException">The list is empty, names a rank twice or one that this group has not.</exception>
    /// <exception cref="CollectiveMismatchException">The ranks called with different lists.</exception>
    public ProcessGroup? NewGroup(IReadOnlyList<int> ranks, TimeSpan? timeout = null)
    {
        ArgumentNullException.ThrowIfNull(ranks);
        int[] members = [.. ranks];
        Call(nameof(NewGroup)).RequireMembers(members, nameof(ranks));
        var lists = AllGatherObject(members);
        if (lists.Any(list => !list.AsSpan().SequenceEqual(members)))
            throw new CollectiveMismatchException(
                $"{Me}: the ranks asked for different new groups: " +
                $"{string.Join("; ", lists.Select((list, rank) => $"{NameOf(rank)} called NewGroup({string.Join(", ", list)})"))}. " +
                "Every rank of the group, member or not, must call NewGroup with the same list in the same order.");
        return NewGroupCore(members, timeout ?? Timeout);
    }

    /// <summary>
    /// Tells the other ranks that this one cannot go on, so that their pending operations end with <see cref="PeerFailedException"/>, also those of
    /// groups that were made of this one. Local; the group is unusable afterwards.
    /// </summary>
    /// <param name="reason">What happened; shown on the other ranks.</param>
    public abstract void Abort(string reason);

    /// <summary>Makes the communication of one gradient reducer. Collective.</summary>
    /// <param name="name">Names the reducer in errors.</param>
    /// <param name="exchangeBytes">Largest message of <see cref="GradientChannel.Exchange"/>, per rank.</param>
    internal abstract GradientChannel CreateGradientChannel(string name, int exchangeBytes);

    /// <summary>Does whatever part of the operations under way can be done now. Local: never waits.</summary>
    internal virtual void Progress()
    {
    }

    /// <summary>Leaves the group. Local; ranks that still wait for this one get <see cref="PeerFailedException"/>.</summary>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases what the group holds.</summary>
    protected abstract void Dispose(bool disposing);

    /// <summary>How messages name a rank of this group: with its number in the outermost group where that is another.</summary>
    internal string NameOf(int rank) => RankName.Of(rank, GlobalRanks);

    /// <summary>How messages begin.</summary>
    internal string Me => $"R{NameOf(Rank)[1..]}";

    private CollectiveArguments Call(string operation) => new(this, operation);
}
