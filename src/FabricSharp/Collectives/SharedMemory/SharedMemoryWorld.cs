using System.Text;
using FabricSharp.Interop.Posix;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// The ranks of one machine: who they are, whether they live, how they wake each other and tell each other of failures.
/// One control segment, made by rank 0 and mapped by all. A group of some of the ranks has a world of its own, but rings the doorbells of the
/// outermost one: a rank that waits there makes progress with all its groups.
/// </summary>
internal sealed unsafe partial class SharedMemoryWorld : IDisposable
{
    private const ulong Magic = 0x4d57_4352_4241_4605; // changes with the layout
    private const int HeaderBytes = 4096, MemberBytes = 8192, MessageCapacity = 4096, WaitTextCapacity = 512, VerdictOffset = 64;

    private readonly SharedMemorySegment _segment;
    private readonly ProcessIdentity[] _identities;

    /// <summary>Whose doorbells and queues are used; this one, unless it is a group of some of another's ranks. Its memory is held until this one is disposed.</summary>
    private readonly SharedMemoryWorld _outermost;
    private readonly int[] _globalRanks;

    /// <summary>For each rank whether its process can be seen from here (another container's cannot): only then can its death be.</summary>
    private readonly bool[] _visible;

    /// <summary>How many rendezvous of <see cref="Meet"/> this rank has entered.</summary>
    private long _meetings;

    /// <summary>Collective calls count these alike on every rank.</summary>
    private long _files, _buffers, _channelNumbers;
    private int _disposed;

    /// <summary>Whether this object, not another process of the same rank, holds the rank's place.</summary>
    private bool _entered;

    private SharedMemoryWorld(SharedMemorySegment segment, int rank, int size, TimeSpan timeout, SharedMemoryFolders folders, SharedMemoryWorld? parent = null, int[]? ranks = null)
    {
        Folders = folders;
        _segment = segment;
        Token = Path.GetFileName(segment.Path);
        Rank = rank;
        Size = size;
        Timeout = timeout;
        _outermost = parent?._outermost ?? this;
        _globalRanks = parent is null ? [.. Enumerable.Range(0, size)] : [.. ranks!.Select(member => parent._globalRanks[member])];
        if (parent is not null)
            Warn = parent.Warn;
        _identities = new ProcessIdentity[size];
        _visible = new bool[size];
    }

    /// <summary>For each rank its number in the outermost world.</summary>
    public IReadOnlyList<int> GlobalRanks => _globalRanks;

    /// <summary>Where warnings go.</summary>
    public Action<string> Warn { get; set; } = text => Console.Error.WriteLine($"FabricSharp: {text}");

    /// <summary>How messages begin.</summary>
    public string Me => $"R{NameOf(Rank)[1..]}";

    private enum MemberState
    {
        Absent,
        Joined,
        Left,
        Failed,
    }

    public int Rank { get; }

    public int Size { get; }

    public TimeSpan Timeout { get; }

    /// <summary>A random name, the beginning of the names of all files of this group.</summary>
    public string Token { get; }

    public SharedMemoryFolders Folders { get; }

    /// <summary>Whether rank <paramref name="rank"/> made its segment with this number in the other folder; known after the meeting that follows.</summary>
    public bool IsElsewhere(int rank, long file) => Volatile.Read(ref Member(rank)->FileElsewhere) == file;

    public void NoteElsewhere(long file) => Volatile.Write(ref Member(Rank)->FileElsewhere, file);

    private MemberBlock* Member(int rank) => (MemberBlock*)(_segment.Pointer + HeaderBytes + (long)rank * MemberBytes);

    private byte* Message(int rank) => (byte*)Member(rank) + sizeof(MemberBlock);

    /// <summary>Whether some rank has failed or left: one read of each rank's state.</summary>
    public bool AnyTrouble
    {
        get
        {
            for (var rank = 0; rank < Size; rank++)
                if (rank != Rank && (MemberState)Volatile.Read(ref Member(rank)->State) != MemberState.Joined)
                    return true;
            return false;
        }
    }

    public long NextFileNumber() => ++_files;

    public long NextChannelNumber() => ++_channelNumbers;

    public long NextBufferNumber() => ++_buffers;

    /// <summary>Joins the world of <paramref name="store"/>. Collective.</summary>
    /// <param name="store">Where the ranks meet.</param>
    /// <param name="rank">This rank.</param>
    /// <param name="size">The number of ranks.</param>
    /// <param name="timeout">The limit of each wait.</param>
    /// <param name="folders">Where segments go; <see cref="SharedMemoryDirectory.Choose"/> but in tests.</param>
    public static SharedMemoryWorld Join(Store store, int rank, int size, TimeSpan timeout, SharedMemoryFolders? folders = null)
    {
        folders ??= SharedMemoryDirectory.Choose();
        if (rank != 0)
            return Enter(new SharedMemoryWorld(OpenControl(Encoding.UTF8.GetString(store.Get("shm/world", timeout)), rank, size), rank, size, timeout, folders));
        SharedMemoryDirectory.RemoveLeftovers(folders.Main, TimeProvider.System);
        var segment = MakeControl(folders, size);
        store.Set("shm/world", Encoding.UTF8.GetBytes(segment.Path));
        var world = new SharedMemoryWorld(segment, rank, size, timeout, folders);
        if (folders.Warning is { } warning)
            world.Warn(warning);
        return Enter(world);
    }

    /// <summary>Makes the control segment of a group; its first rank does.</summary>
    public static SharedMemorySegment MakeControl(SharedMemoryFolders folders, int size)
    {
        var (segment, _) = SharedMemorySegment.CreateIn(folders, $"{SharedMemoryDirectory.Prefix}{Guid.NewGuid():N}", HeaderBytes + (long)size * MemberBytes);
        *(int*)(segment.Pointer + 8) = size;
        Volatile.Write(ref *(ulong*)segment.Pointer, Magic);
        return segment;
    }

    /// <summary>Joins the world of some ranks of this one. Collective over those.</summary>
    /// <param name="made">The control segment on the first of them, null on the others.</param>
    /// <param name="path">Where it is.</param>
    /// <param name="ranks">Their numbers here.</param>
    /// <param name="timeout">The limit of its waits.</param>
    public SharedMemoryWorld JoinSubset(SharedMemorySegment? made, string path, int[] ranks, TimeSpan timeout)
    {
        var rank = Array.IndexOf(ranks, Rank);
        if (!_outermost.TryHold())
            throw new DistributedException($"{Me}: the group was disposed while another was made of it.");
        try
        {
            return Enter(new SharedMemoryWorld(made ?? OpenControl(path, rank, ranks.Length), rank, ranks.Length, timeout, Folders, this, ranks));
        }
        catch
        {
            _outermost.EndHold();
            throw;
        }
    }

    private static SharedMemorySegment OpenControl(string path, int rank, int size)
    {
        var segment = SharedMemorySegment.Open(path, HeaderBytes + (long)size * MemberBytes);
        if (Volatile.Read(ref *(ulong*)segment.Pointer) == Magic && *(int*)(segment.Pointer + 8) == size)
            return segment;
        segment.Dispose();
        throw new DistributedException($"Rank {rank}: {path} is no control segment of {size} ranks. Do all ranks run the same FabricSharp, with the same world size?");
    }

    private static SharedMemoryWorld Enter(SharedMemoryWorld world)
    {
        try
        {
            world.Enter();
        }
        catch
        {
            world.ReleaseOwn();
            throw;
        }
        finally
        {
            if (world.Rank == 0)
                world._segment.Unlink();
        }

        return world;
    }

    /// <summary>Returns when every rank has come to the same place. Collective; for set-up, not for speed.</summary>
    public void Meet(string purpose)
    {
        ObserveThread();
        var number = ++_meetings;
        var hash = HashOf(purpose);
        Member(Rank)->MeetingPurposes[number & 1] = hash; // a rank is at most one meeting ahead of another: it does not overwrite this one's purpose
        Volatile.Write(ref Member(Rank)->Meetings, number);
        WakePeers();
        var pause = new SharedMemoryPause(this, Timeout);
        var watch = new DivergenceWatch(this);
        try
        {
            while (true)
            {
                var missing = FirstRankBelow(number);
                if (missing < 0)
                    break;
                ThrowIfFailed(purpose, rank => Volatile.Read(ref Member(rank)->Meetings) < number);
                if (!pause.Once())
                    throw new DistributedTimeoutException($"{Me}: {purpose} waited {Timeout.TotalSeconds:0.#} s for {NameOf(missing)}{DescribeStopped(missing)}. Did it take another path, or never start?");
                if (!pause.IsSlow)
                    continue;
                ProgressAll();
                watch.Look(MeetingToken | number, () => $"in the set-up step '{purpose}'");
                if (pause.PassesHalf())
                    Warn($"{Me} has waited {Timeout.TotalSeconds / 2:0.#} s, half of its limit, for {NameOf(missing)} in the set-up step '{purpose}'{DescribeStopped(missing)}.");
            }
        }
        finally
        {
            pause.End();
            watch.End();
        }

        for (var rank = 0; rank < Size; rank++)
            if (Member(rank)->MeetingPurposes[number & 1] != hash)
                throw new CollectiveMismatchException($"{Me} is in '{purpose}' while {NameOf(rank)} is in another set-up step. All ranks must set up the same things in the same order.");
    }


    /// <summary>Wakes the ranks that sleep, after something that they may wait for was written.</summary>
    public void WakePeers()
    {
        Interlocked.MemoryBarrier(); // what was written before must be visible before we look who sleeps (see Arm)
        for (var rank = 0; rank < Size; rank++)
            if (rank != Rank)
                _outermost.Ring(_globalRanks[rank]);
    }

    /// <summary>Announces that a thread of this rank is about to sleep; it must look at what it waits for once more before it does.</summary>
    public int Arm()
    {
        var bell = _outermost.Member(_outermost.Rank);
        Interlocked.Increment(ref bell->Sleepers);
        return Volatile.Read(ref bell->Doorbell);
    }

    public void Disarm() => Interlocked.Decrement(ref _outermost.Member(_outermost.Rank)->Sleepers);

    public void Sleep(int armedDoorbell, TimeSpan limit)
    {
        if (PosixApi.IsSupported)
            PosixApi.WaitOnWord(&_outermost.Member(_outermost.Rank)->Doorbell, armedDoorbell, limit);
        else
            Thread.Yield();
    }

    public string NameOf(int rank) => RankName.Of(rank, GlobalRanks);

    public string Names(IReadOnlyCollection<int> ranks) => RankName.OfAll(ranks, GlobalRanks);

    /// <summary>A clause on a rank whose process does not run because somebody stopped it; else nothing. Reads /proc.</summary>
    public string DescribeStopped(int rank) => _visible[rank] && _identities[rank].IsStopped
        ? $"; the process {_identities[rank].Id} of {NameOf(rank)} is stopped (SIGSTOP, Ctrl-Z or a debugger): kill -CONT {_identities[rank].Id} lets it go on"
        : "";

    /// <summary>Publishes that this rank cannot go on. The first reason stays.</summary>
    public void Fail(string reason)
    {
        if (_disposed != 0 || !_entered || Member(Rank)->State == (int)MemberState.Failed)
            return;
        var text = Encoding.UTF8.GetBytes(reason);
        var length = Math.Min(text.Length, MessageCapacity);
        text.AsSpan(0, length).CopyTo(new Span<byte>(Message(Rank), MessageCapacity));
        Member(Rank)->MessageLength = length;
        Volatile.Write(ref Member(Rank)->State, (int)MemberState.Failed);
        WakePeers();
    }

    /// <summary>Throws when some rank reported a failure, or when one that <paramref name="isMissing"/> has left.</summary>
    public void ThrowIfFailed(string operation, Func<int, bool> isMissing)
    {
        for (var rank = 0; rank < Size; rank++)
        {
            if (rank == Rank)
                continue;
            var state = (MemberState)Volatile.Read(ref Member(rank)->State);
            if (state == MemberState.Failed)
                throw PeerFailed(operation, rank, ReadMessage(rank));
            if (state == MemberState.Left && isMissing(rank))
                throw PeerFailed(operation, rank, "it has left the group (disposed it, or its program ended)");
        }
    }

    /// <summary>Throws when the process of some rank is gone without having left. Reads /proc: to be called now and then.</summary>
    public void ThrowIfDead(string operation, Func<int, bool> isMissing)
    {
        for (var rank = 0; rank < Size; rank++)
        {
            if (!_visible[rank] || !isMissing(rank) || (MemberState)Volatile.Read(ref Member(rank)->State) != MemberState.Joined)
                continue;
            if (!_identities[rank].IsAlive)
                throw PeerFailed(operation, rank, $"its process {_identities[rank].Id} has ended without leaving the group (killed, crashed or out of memory)");
        }
    }

    /// <summary>Tells the others that this rank will not come any more. The memory stays: other threads may still wait here.</summary>
    public void Leave()
    {
        if (_disposed != 0 || !_entered || Member(Rank)->State != (int)MemberState.Joined)
            return;
        Volatile.Write(ref Member(Rank)->State, (int)MemberState.Left);
        WakePeers();
    }

    /// <summary>Keeps the memory mapped until <see cref="EndHold"/>; false when it is disposed.</summary>
    public bool TryHold()
    {
        if (!_segment.TryHold())
            return false;
        if (_outermost == this || _outermost._segment.TryHold())
            return true;
        _segment.EndHold();
        return false;
    }

    public void EndHold()
    {
        _segment.EndHold();
        if (_outermost != this)
            _outermost._segment.EndHold();
    }

    public void Dispose()
    {
        Leave();
        foreach (var queue in Volatile.Read(ref _outermost._queues).Where(queue => queue.World == this))
            queue.Fail(new DistributedException($"{Me}: the group of '{queue.Name}' was disposed."));
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        _segment.Dispose();
        if (_outermost != this)
            _outermost.EndHold();
    }

    /// <summary>Undoes the construction when <see cref="Enter()"/> has failed; what it holds of the outermost world is its caller's.</summary>
    private void ReleaseOwn()
    {
        Leave();
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
            _segment.Dispose();
    }

    private void Ring(int rank)
    {
        if (Volatile.Read(ref Member(rank)->Sleepers) == 0)
            return;
        Interlocked.Increment(ref Member(rank)->Doorbell);
        if (PosixApi.IsSupported)
            PosixApi.WakeWord(&Member(rank)->Doorbell);
    }

    private void Enter()
    {
        var me = Member(Rank);
        if (Interlocked.CompareExchange(ref me->State, (int)MemberState.Joined, (int)MemberState.Absent) != (int)MemberState.Absent)
            throw new DistributedException($"{Me} is taken by process {me->ProcessId}: two processes were given the same rank.");
        _entered = true;
        me->ProcessId = ProcessIdentity.Current.Id;
        me->StartTime = ProcessIdentity.Current.StartTime;
        Meet("joining the process group");
        for (var rank = 0; rank < Size; rank++)
        {
            _identities[rank] = new ProcessIdentity(Member(rank)->ProcessId, Member(rank)->StartTime);
            _visible[rank] = rank != Rank && _identities[rank].IsAlive;
        }

        Meet("checking the process group"); // no rank leaves before all have looked for each other
    }

    private int FirstRankBelow(long number)
    {
        for (var rank = 0; rank < Size; rank++)
            if (Volatile.Read(ref Member(rank)->Meetings) < number)
                return rank;
        return -1;
    }

    private string ReadMessage(int rank)
    {
        var length = Math.Clamp(Member(rank)->MessageLength, 0, MessageCapacity);
        return Encoding.UTF8.GetString(Message(rank), length);
    }

    private PeerFailedException PeerFailed(string operation, int rank, string reason) =>
        new($"{Me}: {operation} cannot complete because {NameOf(rank)} failed: {reason}", rank, reason);

    private static int HashOf(string text)
    {
        var hash = 17;
        foreach (var c in text)
            hash = unchecked(hash * 31 + c);
        return hash;
    }

    private struct MemberBlock
    {
        public int State;
        public int ProcessId;
        public long StartTime;
        public long Meetings;
        public fixed int MeetingPurposes[2];
        public int MessageLength;
        public int WaitTextLength;
        public long WaitToken;
        public int HasSeveralThreads;
        public int Looks;
        public long FileElsewhere;
        private fixed byte _line0[64]; // the words below are written by others: lines of their own
        public int Doorbell;
        private fixed byte _line1[124];
        public int Sleepers;
        private fixed byte _line2[124];
    }
}
