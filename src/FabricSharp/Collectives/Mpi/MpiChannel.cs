using System.Collections.Concurrent;
using FabricSharp.Interop.Mpi;

namespace FabricSharp.Collectives.Mpi;

/// <summary>
/// The operations of a group of ranks on one communicator of their own, in the order of the calls. Everything local is guarded by the
/// runtime's lock; nothing waits but <see cref="Wait"/>.
/// </summary>
internal sealed unsafe class MpiChannel : IDisposable
{
    public const int HeaderTag = 0, ControlTag = 1, MessageTag = 16384;

    /// <summary>Of one rank in one piece: large enough for full bandwidth, small enough that reduction and transfer of different pieces overlap.</summary>
    public const int DefaultPieceBytes = 4 << 20;

    private const int RoundsPerLookAtControl = 8;
    private const int PostedAtOnce = 64, PiecesAtOnce = 4, ControlBytes = 2048;
    private const int SmallestInline = 256, LargestInline = 4096 - 128 - MpiHeader.Bytes; // with headers one packet of usual transports
    private const int InlineBytesOfAll = 64 * 1024;
    private const int FirstDataTag = 64, TagsOfOperation = 64, OperationTags = 2 * PostedAtOnce; // below MessageTag, and that below the 32767 that every MPI has

    private readonly ConcurrentQueue<MpiOperation> _called = new();
    private readonly Queue<MpiOperation> _posted = new();
    private readonly List<MpiOperation> _moving = [], _ending = [];
    private readonly MpiControl _control;
    private readonly MpiMailbox _mailbox;
    private readonly ConcurrentBag<WeakReference<MpiChannel>> _children = [];
    private readonly long[] _leftAfter;

    /// <summary>Who cannot go on, and the last operation that ended on the rank that says so: earlier ones end here, too.</summary>
    private (int Rank, long EndedThrough, string Reason)? _aborted;

    private long _sequence, _rounds;
    private volatile DistributedException? _failure;
    private volatile bool _disposed;
    private bool _isLost;

    /// <summary>Takes over a communicator whose ranks all make the channel.</summary>
    public MpiChannel(MpiRuntime runtime, IntPtr communicator, string name, int rank, IReadOnlyList<int> globalRanks, TimeSpan timeout, int pieceBytes = DefaultPieceBytes)
    {
        (Runtime, Communicator, Name, Rank, GlobalRanks, Timeout, PieceBytes) = (runtime, communicator, name, rank, globalRanks, timeout, pieceBytes);
        Size = globalRanks.Count;
        InlineBytes = Math.Max(Math.Clamp(InlineBytesOfAll / Size & ~63, SmallestInline, LargestInline), 2 * sizeof(long) * Size); // the sizes of an all-to-all fit
        BlockBytes = MpiHeader.Bytes + InlineBytes;
        Blocks = new MpiMemory(2L * Size * BlockBytes);
        Staging = new MpiMemory(pieceBytes + 64L * (Size + 1));
        _leftAfter = new long[Size];
        Array.Fill(_leftAfter, long.MaxValue);
        lock (runtime.Gate)
            _control = new MpiControl(this, ControlBytes);
        _mailbox = new MpiMailbox(this, _control);
        runtime.Register(this);
    }

    public MpiRuntime Runtime { get; }

    public MpiApi Api => Runtime.Api;

    public IntPtr Communicator { get; }

    public string Name { get; }

    public int Rank { get; }

    public int Size { get; }

    public IReadOnlyList<int> GlobalRanks { get; }

    public TimeSpan Timeout { get; }

    public int PieceBytes { get; }

    /// <summary>Data of one rank that travel with its call.</summary>
    public int InlineBytes { get; }

    public int BlockBytes { get; }

    public MpiMemory Blocks { get; }

    /// <summary>Room for the others' parts of a piece.</summary>
    public MpiMemory Staging { get; }

    public string Me => $"R{NameOf(Rank)[1..]}";

    /// <summary>Whether the communicator was given back.</summary>
    public bool IsClosed { get; private set; }

    /// <summary>Whether requests are under way that nobody waits for any more.</summary>
    public bool HasLost => _isLost;

    /// <summary>Whether what was to be told has left this rank.</summary>
    public bool HasSentAll => _control.HasSentAll;

    public string NameOf(int rank) => RankName.Of(rank, GlobalRanks);

    /// <summary>Tag of a piece's phase. Equal for operations and pieces that are never under way at the same time.</summary>
    public static int TagOf(long sequence, long piece, int phase) =>
        FirstDataTag + (int)(sequence % OperationTags) * TagsOfOperation + (int)(piece % (TagsOfOperation / 2)) * 2 + phase;

    /// <summary>A group of some of these ranks fails with this one.</summary>
    public void Add(MpiChannel child) => _children.Add(new WeakReference<MpiChannel>(child));

    public MpiWork Start(MpiOperation operation)
    {
        RequireUsable();
        Runtime.Begins();
        _called.Enqueue(operation);
        Runtime.Advance();
        return new MpiWork(this, operation);
    }

    public MpiWork Start(MpiMessage message)
    {
        RequireUsable();
        Runtime.Begins();
        lock (Runtime.Gate)
            _mailbox.Add(message);
        Runtime.Advance();
        return new MpiWork(this, message);
    }

    public void Wait(MpiRequest request, TimeSpan timeout)
    {
        if (!Runtime.WaitFor(() => request.IsCompleted, timeout))
            lock (Runtime.Gate)
                if (!request.IsCompleted)
                    Fail(new DistributedTimeoutException(
                        $"{Me}: {request.Describe(this)} timed out after {timeout.TotalSeconds:0.###} s: {request.DescribeMissing(this)}. " +
                        "Did a rank take another branch, run out of data, or is it just slow? A longer limit is set with the strategy's timeout."));
        if (request.Failure is { } failure)
            throw failure;
    }

    /// <summary>Waits like <see cref="Wait"/>, and returns the ranks that have not come within the limit.</summary>
    public IReadOnlyList<int> WaitForAll(MpiOperation operation, TimeSpan timeout)
    {
        try
        {
            Wait(operation, timeout);
            return [];
        }
        catch (DistributedTimeoutException) when (operation.Sequence > 0)
        {
            lock (Runtime.Gate)
            {
                var late = Enumerable.Range(0, Size).Where(rank => operation.IsMissing(Api, rank)).ToList();
                if (late.Count > 0)
                    return late;
            }

            throw;
        }
    }

    /// <summary>Tells the others, and those of groups made of this one, that this rank cannot go on.</summary>
    public void Abort(string reason)
    {
        lock (Runtime.Gate)
        {
            if (!_disposed && _failure is null)
                _control.SendToAll(MpiControlKind.Abort, Rank, reason, EndedThrough);
            Fail(new DistributedException($"{Me}: this rank has given the group up: {reason}"));
        }

        foreach (var reference in _children)
            if (reference.TryGetTarget(out var child))
                child.Abort(reason);
        Runtime.Deliver(() => HasSentAll);
    }

    /// <summary>Tells the others that this rank does nothing more here.</summary>
    public void Leave()
    {
        lock (Runtime.Gate)
        {
            if (_disposed)
                return;
            var ended = EndedThrough;
            var isBusy = !_called.IsEmpty || _posted.Count > 0 || _moving.Count > 0 || _mailbox.IsBusy || _failure is not null;
            Fail(new DistributedException($"{Me}: the group was disposed while operations of '{Name}' were pending."));
            _disposed = true;
            if (_failure is PeerFailedException cause) // the others are to hear of the rank that began
                _control.SendToAll(MpiControlKind.Abort, cause.FailedRank, cause.Reason, ended);
            _control.SendToAll(MpiControlKind.Left, isBusy ? -1 : _sequence, "it has left the group");
        }
    }

    /// <summary>Takes back what can be: MPI is about to end. Under the lock.</summary>
    public void Close() => _control.Close();

    public void Dispose()
    {
        Leave();
        Runtime.Deliver(() => HasSentAll);
    }

    /// <summary>Does what can be done now. Under the lock.</summary>
    public bool Advance()
    {
        var moved = false;
        try
        {
            if (++_rounds % RoundsPerLookAtControl == 0 || _mailbox.IsBusy || _failure is not null || !_control.HasSentAll)
                moved |= _control.Advance(Receive);
            if (_disposed)
                TryClose();
            if (_failure is not null)
                return moved;
            moved |= PostCalled();
            BeginPosted(ref moved);
            Move(ref moved);
            moved |= _mailbox.Advance();
            ThrowIfPeerLeft();
        }
        catch (MpiException e)
        {
            Fail(new DistributedException($"{Me}: '{Name}' failed in MPI: {e.Message}.", e));
        }
        catch (DistributedException e)
        {
            Fail(e);
        }

        return moved;
    }

    /// <summary>A peer's last word. Under the lock.</summary>
    private void Receive(int peer, MpiControlMessage message, string text)
    {
        switch (message.Kind)
        {
            case MpiControlKind.Left when message.Number >= 0:
                _leftAfter[peer] = message.Number;
                _mailbox.Left(peer);
                break;
            case MpiControlKind.Left:
                _leftAfter[peer] = 0;
                Fail(PeerFailed(peer, text, Oldest()));
                break;
            case MpiControlKind.Abort when message.Number >= 0 && message.Number < Size && message.Number != Rank:
                _aborted ??= ((int)message.Number, message.Count, text);
                break;
            case MpiControlKind.Abort: // another rank has noticed first that this one left
                break;
            default:
                _mailbox.Receive(peer, message);
                break;
        }
    }

    private bool PostCalled()
    {
        var moved = false;
        while (_posted.Count + _moving.Count + _ending.Count < PostedAtOnce && _called.TryDequeue(out var operation))
        {
            _posted.Enqueue(operation);
            operation.Post(this, ++_sequence);
            moved = true;
        }

        return moved;
    }

    private void BeginPosted(ref bool moved)
    {
        while (_posted.TryPeek(out var operation) && operation.HasAllCalls(Api, ref moved))
        {
            if (operation.FindMismatch(this) is { } mismatch)
                throw new CollectiveMismatchException(mismatch);
            moved = true;
            _posted.Dequeue();
            _moving.Add(operation);
            if (operation.Begin(this))
                End(_moving.Count - 1);
        }
    }

    private void Move(ref bool moved)
    {
        var room = PiecesAtOnce;
        for (var i = 0; i < _moving.Count && room > 0; i++)
            if (_moving[i].Move(this, ref room, ref moved))
                End(i--);
        for (var i = _ending.Count - 1; i >= 0; i--)
            if (_ending[i].TryEnd(this))
                _ending.RemoveAt(i);
    }

    private void End(int index)
    {
        var operation = _moving[index];
        _moving.RemoveAt(index);
        if (!operation.TryEnd(this))
            _ending.Add(operation);
        Complete(operation, null);
    }

    /// <summary>The oldest operation cannot end without a rank that has left before it; younger ones wait for it.</summary>
    private void ThrowIfPeerLeft()
    {
        if (_aborted is { } aborted && (Oldest() as MpiOperation) is var oldest && (oldest is null || oldest.Sequence == 0 || oldest.Sequence > aborted.EndedThrough))
            throw PeerFailed(aborted.Rank, aborted.Reason, Oldest());
        if (!_posted.TryPeek(out var operation) || _moving.Count > 0)
            return;
        for (var rank = 0; rank < Size; rank++)
            if (_leftAfter[rank] < operation.Sequence && operation.IsMissing(Api, rank))
                throw PeerFailed(rank, "it has left the group", operation);
    }

    public PeerFailedException PeerFailed(int rank, string reason, MpiRequest? request) =>
        new($"{Me}: {request?.Describe(this) ?? $"'{Name}'"} cannot be completed because {NameOf(rank)} failed: {reason}", rank, reason);

    /// <summary>The last operation that is over, with all before it.</summary>
    private long EndedThrough => (_moving.FirstOrDefault() ?? (_posted.TryPeek(out var posted) ? posted : null))?.Sequence - 1 ?? _sequence;

    private MpiRequest? Oldest() => _moving.FirstOrDefault() ?? (_posted.TryPeek(out var posted) ? posted : _called.TryPeek(out var called) ? called : _mailbox.Oldest());

    /// <summary>Ends everything with <paramref name="failure"/>; later calls are refused with it. Under the lock.</summary>
    private void Fail(DistributedException failure)
    {
        var first = _failure ??= failure;
        _isLost |= _posted.Count > 0 || _moving.Count > 0 || _mailbox.IsBusy; // their requests cannot be taken back: they, and their tensors, are kept
        foreach (var operation in _called.Concat(_posted).Concat(_moving))
            Complete(operation, first);
        _called.Clear();
        _mailbox.Fail(first);
    }

    public void Complete(MpiRequest request, DistributedException? failure)
    {
        if (request.IsCompleted)
            return;
        request.Complete(failure);
        Runtime.Ended();
    }

    private void RequireUsable()
    {
        if (_failure is { } failure)
            throw new DistributedException(
                _disposed ? $"{Me}: the group of '{Name}' is disposed." : $"{Me}: '{Name}' is unusable since an earlier failure: {failure.Message}", failure);
    }

    /// <summary>When all have left, nothing can be under way any more, and the communicator's number may be used again.</summary>
    private void TryClose()
    {
        if (_isLost || _ending.Count > 0 || !_control.HasSentAll || Enumerable.Range(0, Size).Any(rank => rank != Rank && _leftAfter[rank] == long.MaxValue))
            return;
        IsClosed = true;
        Api.Free(Communicator);
        Blocks.Dispose();
        Staging.Dispose();
    }
}
