using System.Text;
using FabricSharp.Interop.Posix;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// The ranks of one machine: who they are, whether they live, how they wake each other and tell each other of failures.
/// One control segment, made by rank 0 and mapped by all.
/// </summary>
internal sealed unsafe partial class SharedMemoryWorld : IDisposable
{
    private const ulong Magic = 0x4d57_4352_4241_4604; // changes with the layout
    private const int HeaderBytes = 4096, MemberBytes = 8192, MessageCapacity = 4096, WaitTextCapacity = 512, VerdictOffset = 64;

    private readonly SharedMemorySegment _segment;
    private readonly ProcessIdentity[] _identities;

    /// <summary>For each rank whether its process can be seen from here (another container's cannot): only then can its death be.</summary>
    private readonly bool[] _visible;

    /// <summary>How many rendezvous of <see cref="Meet"/> this rank has entered.</summary>
    private long _meetings;

    /// <summary>Collective calls count these alike on every rank.</summary>
    private long _files, _buffers, _channelNumbers;
    private int _disposed;

    /// <summary>Whether this object, not another process of the same rank, holds the rank's place.</summary>
    private bool _entered;

    private SharedMemoryWorld(SharedMemorySegment segment, string token, int rank, int size, TimeSpan timeout)
    {
        _segment = segment;
        Token = token;
        Rank = rank;
        Size = size;
        Timeout = timeout;
        _identities = new ProcessIdentity[size];
        _visible = new bool[size];
    }

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

    public string Folder => Path.GetDirectoryName(_segment.Path)!;

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
    public static SharedMemoryWorld Join(Store store, int rank, int size, TimeSpan timeout)
    {
        var length = HeaderBytes + (long)size * MemberBytes;
        SharedMemorySegment segment;
        string token;
        if (rank == 0)
        {
            token = $"{SharedMemoryDirectory.Prefix}{Guid.NewGuid():N}";
            var folder = SharedMemoryDirectory.Choose();
            SharedMemoryDirectory.RemoveLeftovers(folder, TimeProvider.System);
            var path = Path.Combine(folder, token);
            segment = SharedMemorySegment.Create(path, length);
            *(int*)(segment.Pointer + 8) = size;
            Volatile.Write(ref *(ulong*)segment.Pointer, Magic);
            store.Set("shm/world", Encoding.UTF8.GetBytes(path));
        }
        else
        {
            var path = Encoding.UTF8.GetString(store.Get("shm/world", timeout));
            token = Path.GetFileName(path);
            segment = SharedMemorySegment.Open(path, length);
            if (Volatile.Read(ref *(ulong*)segment.Pointer) != Magic || *(int*)(segment.Pointer + 8) != size)
            {
                segment.Dispose();
                throw new DistributedException($"Rank {rank}: {path} is no control segment of {size} ranks. Do all ranks run the same FabricSharp, with the same world size?");
            }
        }

        var world = new SharedMemoryWorld(segment, token, rank, size, timeout);
        try
        {
            world.Enter();
        }
        catch
        {
            world.Dispose();
            throw;
        }
        finally
        {
            if (rank == 0)
                segment.Unlink();
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
        var watch = new DivergenceWatch(this, MeetingToken | number, () => $"in the set-up step '{purpose}'");
        try
        {
            while (true)
            {
                var missing = FirstRankBelow(number);
                if (missing < 0)
                    break;
                ThrowIfFailed(purpose, rank => Volatile.Read(ref Member(rank)->Meetings) < number);
                if (!pause.Once())
                    throw new DistributedTimeoutException($"Rank {Rank}: {purpose} waited {Timeout.TotalSeconds:0.#} s for rank {missing}. Did it take another path, or never start?");
                if (!pause.IsSlow)
                    continue;
                ProgressAll();
                watch.Look();
            }
        }
        finally
        {
            pause.End();
            watch.End();
        }

        for (var rank = 0; rank < Size; rank++)
            if (Member(rank)->MeetingPurposes[number & 1] != hash)
                throw new CollectiveMismatchException($"Rank {Rank} is in '{purpose}' while rank {rank} is in another set-up step. All ranks must set up the same things in the same order.");
    }


    /// <summary>Wakes the ranks that sleep, after something that they may wait for was written.</summary>
    public void WakePeers()
    {
        Interlocked.MemoryBarrier(); // what was written before must be visible before we look who sleeps (see Arm)
        for (var rank = 0; rank < Size; rank++)
        {
            if (rank == Rank || Volatile.Read(ref Member(rank)->Sleepers) == 0)
                continue;
            Interlocked.Increment(ref Member(rank)->Doorbell);
            if (PosixApi.IsSupported)
                PosixApi.WakeWord(&Member(rank)->Doorbell);
        }
    }

    /// <summary>Announces that a thread of this rank is about to sleep; it must look at what it waits for once more before it does.</summary>
    public int Arm()
    {
        Interlocked.Increment(ref Member(Rank)->Sleepers);
        return Volatile.Read(ref Member(Rank)->Doorbell);
    }

    public void Disarm() => Interlocked.Decrement(ref Member(Rank)->Sleepers);

    public void Sleep(int armedDoorbell, TimeSpan limit)
    {
        if (PosixApi.IsSupported)
            PosixApi.WaitOnWord(&Member(Rank)->Doorbell, armedDoorbell, limit);
        else
            Thread.Yield();
    }

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

    public bool TryHold() => _segment.TryHold();

    public void EndHold() => _segment.EndHold();

    public void Dispose()
    {
        Leave();
        foreach (var channel in Volatile.Read(ref _channels))
            channel.Fail(new DistributedException($"Rank {Rank}: the group of '{channel.Name}' was disposed."));
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
            _segment.Dispose();
    }

    private void Enter()
    {
        var me = Member(Rank);
        if (Interlocked.CompareExchange(ref me->State, (int)MemberState.Joined, (int)MemberState.Absent) != (int)MemberState.Absent)
            throw new DistributedException($"Rank {Rank} is taken by process {me->ProcessId}: two processes were given the same rank.");
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
        new($"Rank {Rank}: {operation} cannot complete because rank {rank} failed: {reason}", rank, reason);

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
        private fixed byte _line0[64]; // the words below are written by others: lines of their own
        public int Doorbell;
        private fixed byte _line1[124];
        public int Sleepers;
        private fixed byte _line2[124];
    }
}
