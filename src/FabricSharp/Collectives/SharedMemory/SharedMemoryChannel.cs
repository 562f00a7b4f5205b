namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// An ordered queue of collective operations. Each operation has the same sequence number on every rank and three milestones, each
/// a counter that a rank raises in order: <i>posted</i> (its input may be read), <i>reduced</i> (it has done its share of the work),
/// <i>consumed</i> (it will not look at the others' input any more). No thread of its own: whoever posts, waits or calls
/// <see cref="Progress"/> does what can be done. See docs/design/shared-memory-protocol.md.
/// </summary>
internal sealed unsafe class SharedMemoryChannel : IDisposable
{
    private const int HeaderBytes = 64, DescriptorBytes = 64, CounterBytes = 128, RoundsPerProgressOfAll = 16;

    private readonly SharedMemoryWorld _world;
    private readonly SharedMemorySegment _segment;
    private readonly SharedMemoryChannelShape _shape;
    private readonly long _memberBytes;

    /// <summary>The same on every rank.</summary>
    private readonly long _number;
    private readonly Lock _gate = new();

    /// <summary>Operations from the oldest one that is not complete; guarded by <see cref="_gate"/> like all fields below.</summary>
    private readonly Queue<SharedMemoryOperation> _running = new();

    /// <summary>Operations that wait for room in the ring or in the staging slots.</summary>
    private readonly Queue<SharedMemoryOperation> _waiting = new();

    /// <summary>Posted operations whose share is still to be done.</summary>
    private readonly Queue<SharedMemoryOperation> _unreduced = new();

    /// <summary>For each staging slot the last operation that used it.</summary>
    private readonly long[] _slotUser;

    /// <summary>Up to here every rank has consumed, as far as was seen: looking costs a cache line of each other rank.</summary>
    private long _consumedByAll;
    private long _nextSequence = 1;
    private long _nextSlot;

    /// <summary>The first failure; everything queued and everything later ends with it.</summary>
    private DistributedException? _failure;
    private bool _disposed;

    public SharedMemoryChannel(SharedMemoryWorld world, string name, SharedMemoryChannelShape shape)
    {
        _world = world;
        _shape = shape;
        Name = name;
        _slotUser = new long[shape.StagingSlots];
        _memberBytes = 3 * CounterBytes + (long)shape.RingLength * DescriptorBytes + (long)shape.InlineSlots * shape.InlineBytes + (long)shape.StagingSlots * shape.StagingBytes;
        _memberBytes = (_memberBytes + 4095) & ~4095L;
        _segment = SharedMemoryExchange.CreateCommon(world, name, HeaderBytes + world.Size * _memberBytes);
        _number = world.NextChannelNumber();
        world.Register(this);
    }

    public string Name { get; }

    public int Rank => _world.Rank;

    public int Size => _world.Size;

    public int InlineBytes => _shape.InlineBytes;

    public int StagingBytes => _shape.StagingBytes;

    public TimeSpan Timeout => _world.Timeout;

    /// <summary>Queues operations that follow one another and starts them as far as possible. Local: does not wait.</summary>
    public void Enqueue(ReadOnlySpan<SharedMemoryOperation> operations)
    {
        lock (_gate)
        {
            if (_failure is not null || _disposed)
                throw Refusal();
            _world.ObserveThread();
            foreach (var operation in operations)
            {
                operation.Sequence = _nextSequence++;
                _waiting.Enqueue(operation);
            }

            Advance();
        }
    }

    /// <summary>Does what can be done now. Local: does not wait.</summary>
    public void Progress()
    {
        lock (_gate)
            Advance();
    }

    /// <summary>Waits until <paramref name="operation"/> is over, making progress with everything queued here and in <paramref name="others"/>.</summary>
    public void Wait(SharedMemoryOperation operation, TimeSpan timeout, SharedMemoryChannel? others = null)
    {
        Progress();
        if (!operation.IsCompleted && TryHold())
        {
            try
            {
                WaitSlowly(operation, timeout, others);
            }
            finally
            {
                _segment.EndHold();
                _world.EndHold();
            }
        }

        if (operation.Failure is { } failure)
            throw failure;
    }

    /// <summary>Ends everything queued with <paramref name="failure"/>; later operations are refused with it.</summary>
    public void Fail(DistributedException failure)
    {
        lock (_gate)
        {
            _failure ??= failure;
            foreach (var queue in new[] { _running, _waiting })
            {
                foreach (var operation in queue)
                    operation.Complete(_failure);
                queue.Clear();
            }

            _unreduced.Clear();
        }
    }

    public void Dispose()
    {
        Fail(new DistributedException($"Rank {Rank}: the group was disposed while operations of '{Name}' were pending."));
        lock (_gate)
        {
            if (_disposed)
                return;
            _disposed = true;
            _world.Unregister(this);
            _segment.Dispose();
        }
    }

    /// <summary>Where rank <paramref name="rank"/> puts the input of a small operation.</summary>
    public byte* Inline(int rank, long sequence) =>
        Ring(rank) + (long)_shape.RingLength * DescriptorBytes + sequence % _shape.InlineSlots * _shape.InlineBytes;

    public byte* Staging(int rank, int slot) =>
        Ring(rank) + (long)_shape.RingLength * DescriptorBytes + (long)_shape.InlineSlots * _shape.InlineBytes + (long)slot * _shape.StagingBytes;

    /// <summary>Where rank <paramref name="rank"/> says that its data of an operation lies; every rank has posted.</summary>
    public long PlaceOf(int rank, long sequence) => Descriptor(rank, sequence).Place;

    private byte* MemberStart(int rank) => _segment.Pointer + HeaderBytes + rank * _memberBytes;

    private ref long Posted(int rank) => ref *(long*)MemberStart(rank);

    private ref long Reduced(int rank) => ref *(long*)(MemberStart(rank) + CounterBytes);

    private ref long Consumed(int rank) => ref *(long*)(MemberStart(rank) + 2 * CounterBytes);

    private byte* Ring(int rank) => MemberStart(rank) + 3 * CounterBytes;

    private ref SharedMemoryDescriptor Descriptor(int rank, long sequence) =>
        ref *(SharedMemoryDescriptor*)(Ring(rank) + sequence % _shape.RingLength * DescriptorBytes);

    private DistributedException Refusal() =>
        new(_failure is null
            ? $"Rank {Rank}: the group of '{Name}' is disposed."
            : $"Rank {Rank}: '{Name}' is unusable since an earlier failure: {_failure.Message}", _failure);

    /// <summary>Needs the lock. Posts, reduces and completes whatever is possible, in order.</summary>
    private void Advance()
    {
        if (_failure is not null || _disposed)
            return;
        try
        {
            var moved = PostWaiting();
            moved |= ReduceReady();
            moved |= CompleteReady();
            if (moved && PostWaiting()) // completion made room
                ReduceReady();
        }
        catch (DistributedException e)
        {
            Fail(e);
        }
    }

    private bool PostWaiting()
    {
        var any = false;
        while (_waiting.TryPeek(out var operation) && HasRoom(operation))
        {
            _waiting.Dequeue();
            if (operation.NeedsStaging)
            {
                operation.Slot = (int)(_nextSlot++ % _shape.StagingSlots);
                _slotUser[operation.Slot] = operation.Sequence;
            }

            operation.Post(this);
            Descriptor(Rank, operation.Sequence) = operation.Descriptor with { Sequence = operation.Sequence };
            Volatile.Write(ref Posted(Rank), operation.Sequence);
            _running.Enqueue(operation);
            _unreduced.Enqueue(operation);
            any = true;
        }

        if (any)
            _world.WakePeers();
        return any;
    }

    private bool HasRoom(SharedMemoryOperation operation)
    {
        var limit = operation.Sequence - (operation.NeedsInline ? Math.Min(_shape.RingLength, _shape.InlineSlots) : _shape.RingLength);
        if (operation.NeedsStaging)
            limit = Math.Max(limit, _slotUser[_nextSlot % _shape.StagingSlots]);
        return limit <= _consumedByAll || limit <= (_consumedByAll = SmallestConsumed());
    }

    private long SmallestConsumed()
    {
        var smallest = long.MaxValue;
        for (var rank = 0; rank < Size; rank++)
            smallest = Math.Min(smallest, Volatile.Read(ref Consumed(rank)));
        return smallest;
    }

    private bool ReduceReady()
    {
        var any = false;
        while (_unreduced.TryPeek(out var operation) && AllPosted(operation.Sequence))
        {
            _unreduced.Dequeue();
            Verify(operation);
            operation.Execute(this);
            Volatile.Write(ref Reduced(Rank), operation.Sequence);
            operation.IsReduced = true;
            any = true;
        }

        if (any)
            _world.WakePeers();
        return any;
    }

    private bool CompleteReady()
    {
        var any = false;
        while (_running.TryPeek(out var operation) && operation.IsReduced && (!operation.NeedsEveryShare || AllReduced(operation.Sequence)))
        {
            _running.Dequeue();
            operation.Finish(this);
            Volatile.Write(ref Consumed(Rank), operation.Sequence);
            operation.Complete(null);
            any = true;
        }

        if (any)
            _world.WakePeers();
        return any;
    }

    private bool AllPosted(long sequence)
    {
        for (var rank = 0; rank < Size; rank++)
            if (Volatile.Read(ref Posted(rank)) < sequence)
                return false;
        return true;
    }

    private bool AllReduced(long sequence)
    {
        for (var rank = 0; rank < Size; rank++)
            if (Volatile.Read(ref Reduced(rank)) < sequence)
                return false;
        return true;
    }

    /// <summary>All ranks' descriptors are there: they must agree, or the ranks have diverged.</summary>
    private void Verify(SharedMemoryOperation operation)
    {
        var mine = Descriptor(Rank, operation.Sequence);
        for (var rank = 0; rank < Size; rank++)
            if (!Descriptor(rank, operation.Sequence).Matches(mine))
                throw new CollectiveMismatchException(DescribeMismatch(operation.Sequence));
    }

    private string DescribeMismatch(long sequence)
    {
        var calls = Enumerable.Range(0, Size).Select(rank => $"rank {rank} called {Descriptor(rank, sequence)}");
        return $"The ranks called different collectives as operation {sequence} of '{Name}': {string.Join("; ", calls)}. All ranks must call the same operations in the same order with the same sizes and types.";
    }

    /// <summary>Keeps the memory that a waiting thread looks at without the lock, should another one dispose the group.</summary>
    private bool TryHold()
    {
        if (!_world.TryHold())
            return false;
        if (_segment.TryHold())
            return true;
        _world.EndHold();
        return false;
    }

    private void WaitSlowly(SharedMemoryOperation operation, TimeSpan timeout, SharedMemoryChannel? others)
    {
        var pause = new SharedMemoryPause(_world, timeout);
        var watch = default(DivergenceWatch); // made when the wait turns out long: most end within microseconds
        try
        {
            for (var round = 1; !operation.IsCompleted; round++)
            {
                if (!pause.Once())
                    throw new DistributedTimeoutException(DescribeStall(operation, timeout));
                Progress();
                others?.Progress();
                if (round % RoundsPerProgressOfAll == 0 || pause.IsSlow)
                    _world.ProgressAll();
                if (operation.IsCompleted)
                    break;
                if (pause.IsSlow)
                    (watch ??= WatchOver(operation)).Look(); // first: when all ranks have diverged, that is the cause of every failure
                ThrowIfPeerFailed(operation, pause.IsSlow);
            }
        }
        catch (DistributedException e)
        {
            Fail(e);
        }
        finally
        {
            pause.End();
            watch?.End();
        }
    }

    private DivergenceWatch WatchOver(SharedMemoryOperation operation) =>
        new(_world, (_number << 40) + operation.Sequence, () => $"in {Describe(operation)}");

    private string Describe(SharedMemoryOperation operation) => $"operation {operation.Sequence} of '{Name}' ({operation.Descriptor})";

    private void ThrowIfPeerFailed(SharedMemoryOperation operation, bool slow)
    {
        if (!slow && !_world.AnyTrouble)
            return;
        bool IsMissing(int rank) => Volatile.Read(ref Posted(rank)) < operation.Sequence
            || (operation.NeedsEveryShare && Volatile.Read(ref Reduced(rank)) < operation.Sequence)
            || Volatile.Read(ref Consumed(rank)) < operation.Sequence - _shape.RingLength;
        var description = Describe(operation);
        try
        {
            _world.ThrowIfFailed(description, IsMissing);
            if (slow)
                _world.ThrowIfDead(description, IsMissing);
        }
        catch (PeerFailedException)
        {
            Progress(); // the rank may have done its part just before it ended
            if (!operation.IsCompleted)
                throw;
        }
    }

    private string DescribeStall(SharedMemoryOperation operation, TimeSpan timeout)
    {
        var late = Enumerable.Range(0, Size).Where(rank => Volatile.Read(ref Posted(rank)) < operation.Sequence).ToList();
        var state = late.Count > 0
            ? $"{(late.Count == 1 ? "rank" : "ranks")} {string.Join(", ", late)} did not call it (at operation {string.Join(", ", late.Select(rank => Posted(rank)))})"
            : "every rank called it but some did not do its share";
        return $"Rank {Rank}: {Describe(operation)} timed out after {timeout.TotalSeconds:0.###} s: {state}. " +
               "Did a rank take another branch, run out of data, or is it just slow? A longer limit is set with the strategy's timeout.";
    }
}

/// <summary>How much room a channel has.</summary>
/// <param name="RingLength">Operations that may be under way at once.</param>
/// <param name="InlineSlots">Operations with inline input that may be under way at once: few, so that the slots stay in the cache.</param>
/// <param name="InlineBytes">Bytes of an inline slot, per rank: input that every rank reads for itself.</param>
/// <param name="StagingSlots">Staged operations that may be under way at once.</param>
/// <param name="StagingBytes">Bytes of a staging slot, per rank.</param>
internal readonly record struct SharedMemoryChannelShape(int RingLength, int InlineSlots, int InlineBytes, int StagingSlots, int StagingBytes);
