namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// An ordered queue of collective operations. Each operation has the same sequence number on every rank and three milestones, each
/// a counter that a rank raises in order: <i>posted</i> (its input may be read), <i>reduced</i> (it has done its share of the work),
/// <i>consumed</i> (it will not look at the others' input any more). No thread of its own: whoever posts, waits or calls
/// <see cref="SharedMemoryQueue.Progress"/> does what can be done. See docs/design/shared-memory-protocol.md.
/// </summary>
internal sealed unsafe class SharedMemoryChannel : SharedMemoryQueue
{
    private const int HeaderBytes = 64, DescriptorBytes = 64, CounterBytes = 128;

    private readonly SharedMemoryChannelShape _shape;
    private readonly long _memberBytes;

    /// <summary>Operations from the oldest one that is not complete; guarded by <see cref="SharedMemoryQueue.Gate"/> like all fields below.</summary>
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

    public SharedMemoryChannel(SharedMemoryWorld world, string name, SharedMemoryChannelShape shape)
        : base(world, name, HeaderBytes + world.Size * MemberBytes(shape), partner: null)
    {
        _shape = shape;
        _memberBytes = MemberBytes(shape);
        _slotUser = new long[shape.StagingSlots];
        world.Register(this);
    }

    public int InlineBytes => _shape.InlineBytes;

    public int StagingBytes => _shape.StagingBytes;

    /// <summary>Queues operations that follow one another and starts them as far as possible. Local: does not wait.</summary>
    public void Enqueue(ReadOnlySpan<SharedMemoryOperation> operations)
    {
        lock (Gate)
        {
            RequireUsable();
            foreach (var operation in operations)
            {
                operation.Sequence = _nextSequence++;
                _waiting.Enqueue(operation);
            }

            Advance();
        }
    }

    /// <summary>The ranks that have not called the operation, in order.</summary>
    public List<int> LateFor(SharedMemoryOperation operation) =>
        [.. Enumerable.Range(0, Size).Where(rank => Volatile.Read(ref Posted(rank)) < operation.Sequence)];

    /// <summary>Where rank <paramref name="rank"/> puts the input of a small operation.</summary>
    public byte* Inline(int rank, long sequence) =>
        Ring(rank) + (long)_shape.RingLength * DescriptorBytes + sequence % _shape.InlineSlots * _shape.InlineBytes;

    public byte* Staging(int rank, int slot) =>
        Ring(rank) + (long)_shape.RingLength * DescriptorBytes + (long)_shape.InlineSlots * _shape.InlineBytes + (long)slot * _shape.StagingBytes;

    /// <summary>Where rank <paramref name="rank"/> puts what is for rank <paramref name="part"/>, when a slot is divided between the ranks.</summary>
    public byte* StagingPart(int rank, int slot, int part) => Staging(rank, slot) + part * (long)StagingPartBytes;

    /// <summary>The size of such a part.</summary>
    public int StagingPartBytes => Math.Max(64, _shape.StagingBytes / Size & ~63);

    /// <summary>Where rank <paramref name="rank"/> says that its data of an operation lies; every rank has posted.</summary>
    public long PlaceOf(int rank, long sequence) => Descriptor(rank, sequence).Place;

    private static long MemberBytes(SharedMemoryChannelShape shape)
    {
        var bytes = 3 * CounterBytes + (long)shape.RingLength * DescriptorBytes + (long)shape.InlineSlots * shape.InlineBytes + (long)shape.StagingSlots * shape.StagingBytes;
        return (bytes + 4095) & ~4095L;
    }

    private byte* MemberStart(int rank) => Memory + HeaderBytes + rank * _memberBytes;

    private ref long Posted(int rank) => ref *(long*)MemberStart(rank);

    private ref long Reduced(int rank) => ref *(long*)(MemberStart(rank) + CounterBytes);

    private ref long Consumed(int rank) => ref *(long*)(MemberStart(rank) + 2 * CounterBytes);

    private byte* Ring(int rank) => MemberStart(rank) + 3 * CounterBytes;

    private ref SharedMemoryDescriptor Descriptor(int rank, long sequence) =>
        ref *(SharedMemoryDescriptor*)(Ring(rank) + sequence % _shape.RingLength * DescriptorBytes);

    /// <summary>Posts, reduces and completes whatever is possible, in order.</summary>
    protected override void Advance()
    {
        if (!IsUsable)
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

    protected override void Clear(DistributedException failure)
    {
        foreach (var queue in new[] { _running, _waiting })
        {
            foreach (var operation in queue)
                operation.Complete(failure);
            queue.Clear();
        }

        _unreduced.Clear();
    }

    protected override string Describe(SharedMemoryRequest request)
    {
        var operation = (SharedMemoryOperation)request;
        return $"operation {operation.Sequence} of '{Name}' ({operation.Descriptor.Describe(World.GlobalRanks)})";
    }

    protected override long TokenOf(SharedMemoryRequest request) => (Number << 40) + ((SharedMemoryOperation)request).Sequence;

    protected override bool IsMissing(SharedMemoryRequest request, int rank)
    {
        var operation = (SharedMemoryOperation)request;
        return Volatile.Read(ref Posted(rank)) < operation.Sequence
            || (operation.NeedsEveryShare && Volatile.Read(ref Reduced(rank)) < operation.Sequence)
            || Volatile.Read(ref Consumed(rank)) < operation.Sequence - _shape.RingLength;
    }

    protected override string DescribeMissing(SharedMemoryRequest request)
    {
        var operation = (SharedMemoryOperation)request;
        var late = LateFor(operation);
        if (late.Count > 0)
            return $"{World.Names(late)} did not call it ({string.Join("; ", late.Select(DescribeLast))})";
        late = [.. Enumerable.Range(0, Size).Where(rank => IsMissing(operation, rank))];
        return late.Count > 0 ? $"every rank called it but {World.Names(late)} did not do its share" : "every rank called it and did its share";
    }

    private string DescribeLast(int rank)
    {
        var last = Volatile.Read(ref Posted(rank));
        return last == 0
            ? $"no call of {World.NameOf(rank)} so far"
            : $"the last call of {World.NameOf(rank)} was operation {last}, {Descriptor(rank, last).Describe(World.GlobalRanks)}";
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
            World.WakePeers();
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
            World.WakePeers();
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
            World.WakePeers();
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
        var calls = Enumerable.Range(0, Size).Select(rank => $"{World.NameOf(rank)} called {Descriptor(rank, sequence).Describe(World.GlobalRanks)}");
        return $"{World.Me}: the ranks called different collectives as operation {sequence} of '{Name}': {string.Join("; ", calls)}. All ranks must call the same operations in the same order with the same sizes and types.";
    }
}

/// <summary>How much room a channel has.</summary>
/// <param name="RingLength">Operations that may be under way at once.</param>
/// <param name="InlineSlots">Operations with inline input that may be under way at once: few, so that the slots stay in the cache.</param>
/// <param name="InlineBytes">Bytes of an inline slot, per rank: input that every rank reads for itself.</param>
/// <param name="StagingSlots">Staged operations that may be under way at once.</param>
/// <param name="StagingBytes">Bytes of a staging slot, per rank.</param>
internal readonly record struct SharedMemoryChannelShape(int RingLength, int InlineSlots, int InlineBytes, int StagingSlots, int StagingBytes);
