using System.Text;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>What the ranks wait for, made visible to each other; and their queues, which a rank that waits keeps going.</summary>
internal sealed unsafe partial class SharedMemoryWorld
{
    /// <summary>Marks the tokens of set-up steps, apart from those of channels.</summary>
    private const long MeetingToken = 1L << 62;

    /// <summary>Of the outermost world: the queues of all its groups. Replaced as a whole by compare-and-exchange, read without.</summary>
    private SharedMemoryQueue[] _queues = [];

    private bool _hasWarnedOfFallback;

    /// <summary>The one thread that has called collectives so far; 0 before the first.</summary>
    private int _thread;

    /// <summary>One warning of a folder without room is enough.</summary>
    public bool HasWarnedOfFallback
    {
        get => _outermost._hasWarnedOfFallback;
        set => _outermost._hasWarnedOfFallback = value;
    }

    private byte* WaitText(int rank) => Message(rank) + MessageCapacity;

    private ref int Verdict => ref *(int*)(_segment.Pointer + 16);

    public void Register(SharedMemoryQueue queue) => _outermost.Exchange(all => [.. all, queue]);

    public void Unregister(SharedMemoryQueue queue) => _outermost.Exchange(all => [.. all.Where(one => one != queue)]);

    /// <summary>
    /// Lets every queue of this rank, whatever its group, do what it can: a rank that waits in one must not hold up the others' work in another, for no thread but the waiting
    /// one would do this rank's share.
    /// </summary>
    public void ProgressAll()
    {
        foreach (var queue in Volatile.Read(ref _outermost._queues))
            queue.Progress();
    }

    /// <summary>Notes which thread calls. With several, what one waits for says nothing about what another is about to do.</summary>
    public void ObserveThread()
    {
        var current = Environment.CurrentManagedThreadId;
        if (_thread == current)
            return;
        if (_thread == 0)
            _thread = current;
        else
            Member(Rank)->HasSeveralThreads = 1;
    }

    /// <summary>Shows what this rank waits for. A token is unique to an operation or set-up step, and the same on every rank.</summary>
    public void PublishWait(long token, string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        var length = Math.Min(bytes.Length, WaitTextCapacity);
        bytes.AsSpan(0, length).CopyTo(new Span<byte>(WaitText(Rank), WaitTextCapacity));
        Member(Rank)->WaitTextLength = length;
        Volatile.Write(ref Member(Rank)->WaitToken, token);
    }

    public void ClearWait() => Volatile.Write(ref Member(Rank)->WaitToken, 0);

    /// <summary>Counts that this rank has looked at its operation once more.</summary>
    public void CountLook() => Volatile.Write(ref Member(Rank)->Looks, Member(Rank)->Looks + 1);

    /// <summary>How often each rank has looked.</summary>
    public void ReadLooks(Span<int> looks)
    {
        for (var rank = 0; rank < Size; rank++)
            looks[rank] = Volatile.Read(ref Member(rank)->Looks);
    }

    /// <summary>Reads what every rank waits for; false when one does not wait, or calls from several threads.</summary>
    public bool TryReadWaits(Span<long> tokens)
    {
        for (var rank = 0; rank < Size; rank++)
        {
            tokens[rank] = Volatile.Read(ref Member(rank)->WaitToken);
            if (tokens[rank] == 0 || Member(rank)->HasSeveralThreads != 0)
                return false;
        }

        return true;
    }

    /// <summary>Publishes, once and for all, that the ranks wait for each other in different operations.</summary>
    public void DeclareDiverged()
    {
        if (Interlocked.CompareExchange(ref Verdict, 1, 0) == 0)
        {
            var waits = Enumerable.Range(0, Size).Select(rank =>
                $"{NameOf(rank)} waits {Encoding.UTF8.GetString(WaitText(rank), Math.Clamp(Member(rank)->WaitTextLength, 0, WaitTextCapacity))}");
            var text = Encoding.UTF8.GetBytes(
                $"The ranks wait for each other in different operations, and none can go on: {string.Join("; ", waits)}. " +
                "All ranks must call the same collective operations in the same order: did one leave a step out, run out of data, or take another branch?");
            var length = Math.Min(text.Length, HeaderBytes - VerdictOffset);
            text.AsSpan(0, length).CopyTo(new Span<byte>(_segment.Pointer + VerdictOffset, length));
            *(int*)(_segment.Pointer + 20) = length;
            Volatile.Write(ref Verdict, 2);
        }

        WakePeers();
    }

    public void ThrowIfDiverged()
    {
        if (Volatile.Read(ref Verdict) != 2)
            return;
        var length = Math.Clamp(*(int*)(_segment.Pointer + 20), 0, HeaderBytes - VerdictOffset);
        throw new CollectiveMismatchException($"{Me}: {Encoding.UTF8.GetString(_segment.Pointer + VerdictOffset, length)}");
    }

    private void Exchange(Func<SharedMemoryQueue[], SharedMemoryQueue[]> change)
    {
        SharedMemoryQueue[] before;
        do
            before = Volatile.Read(ref _queues);
        while (Interlocked.CompareExchange(ref _queues, change(before), before) != before);
    }
}
