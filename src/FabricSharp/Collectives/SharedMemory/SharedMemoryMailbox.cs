using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// Messages between two ranks. For each ordered pair the sender announces messages in a ring; the receiver, which knows what it wants, accepts
/// one after the other; then its bytes go through two small slots. Nothing is sent that was not asked for, so nothing has to be kept.
/// See docs/design/shared-memory-protocol.md, "Messages".
/// </summary>
internal sealed unsafe class SharedMemoryMailbox : SharedMemoryQueue
{
    private const int HeaderBytes = 64, Announcements = 16, AnnouncementBytes = 64, LineBytes = 128, Slots = 2;
    private const int AnnouncementsAt = 3 * LineBytes, SlotsAt = AnnouncementsAt + Announcements * AnnouncementBytes;
    private const long BytesOfAllPairs = 16 << 20;

    private readonly int _slotBytes;
    private readonly long _pairBytes;
    private readonly Outgoing[] _outgoing;
    private readonly Incoming[] _incoming;

    /// <summary>Messages that are not over.</summary>
    private volatile int _pending;

    /// <summary>Grows with everything that moves.</summary>
    private long _moves;

    public SharedMemoryMailbox(SharedMemoryWorld world, SharedMemoryQueue partner)
        : base(world, "messages of the process group", HeaderBytes + (long)world.Size * world.Size * (SlotsAt + Slots * SlotBytes(world.Size)), partner)
    {
        _slotBytes = SlotBytes(world.Size);
        _pairBytes = SlotsAt + Slots * _slotBytes;
        _outgoing = [.. Enumerable.Range(0, world.Size).Select(_ => new Outgoing())];
        _incoming = [.. Enumerable.Range(0, world.Size).Select(_ => new Incoming())];
        world.Register(this);
    }

    public Message Send(byte* data, long count, ScalarType type, int destination, int tag) =>
        Add(new Message(data, count, type, destination, tag, isOutgoing: true), message => _outgoing[destination].Unannounced.Enqueue(message));

    public Message Receive(byte* data, long count, ScalarType type, int source, int tag) =>
        Add(new Message(data, count, type, source, tag, isOutgoing: false), message => _incoming[source].Wanted.Add(message));

    public override void Progress()
    {
        if (_pending != 0)
            base.Progress();
    }

    protected override void Advance()
    {
        if (!IsUsable || _pending == 0)
            return;
        try
        {
            for (var peer = 0; peer < Size; peer++)
            {
                var before = _moves;
                if (!_outgoing[peer].IsIdle)
                    AdvanceOutgoing(peer, _outgoing[peer]);
                if (!_incoming[peer].IsIdle)
                    AdvanceIncoming(peer, _incoming[peer]);
                if (_moves != before)
                    World.WakePeers();
            }
        }
        catch (DistributedException e)
        {
            World.WakePeers();
            Fail(e);
        }
    }

    protected override void Clear(DistributedException failure)
    {
        foreach (var peer in _outgoing)
            peer.Clear(failure);
        foreach (var peer in _incoming)
            peer.Clear(failure);
        _pending = 0;
    }

    protected override string Describe(SharedMemoryRequest request) => ((Message)request).Describe(World);

    /// <summary>Each rank's own, as no two wait for the same.</summary>
    protected override long TokenOf(SharedMemoryRequest request) => (Number << 40) + (1L << 39) + ((long)(Rank & 0x7ff) << 28) + (_moves & 0xfff_ffff);

    protected override bool IsMissing(SharedMemoryRequest request, int rank) => rank == ((Message)request).Peer;

    protected override string DescribeMissing(SharedMemoryRequest request)
    {
        var message = (Message)request;
        return message.Moved > 0
            ? $"{World.NameOf(message.Peer)} has stopped in the middle, after {message.Moved:N0} of {message.Bytes:N0} bytes"
            : $"{World.NameOf(message.Peer)} did not call {(message.IsOutgoing ? "Recv" : "Send")} with this rank and tag";
    }

    private static int SlotBytes(int size) => (int)Math.Clamp(BytesOfAllPairs / Slots / ((long)size * size), 1024, 65536) & ~63;

    private Message Add(Message message, Action<Message> enqueue)
    {
        lock (Gate)
        {
            RequireUsable();
            enqueue(message);
            _pending++;
            Advance();
        }

        return message;
    }

    private PairBlock* Pair(int from, int to) => (PairBlock*)(Memory + HeaderBytes + ((long)from * Size + to) * _pairBytes);

    private static ref Announcement AnnouncementAt(PairBlock* pair, long number) =>
        ref *(Announcement*)((byte*)pair + AnnouncementsAt + number % Announcements * AnnouncementBytes);

    private byte* Slot(PairBlock* pair, long number) => (byte*)pair + SlotsAt + number % Slots * _slotBytes;

    private void AdvanceOutgoing(int peer, Outgoing outgoing)
    {
        var pair = Pair(Rank, peer);
        while (outgoing.Unannounced.TryPeek(out var next) && pair->Announced - Volatile.Read(ref pair->Seen) < Announcements)
        {
            outgoing.Unannounced.Dequeue();
            var number = pair->Announced + 1;
            AnnouncementAt(pair, number) = new Announcement { Count = next.Count, Tag = next.Tag, Type = next.Type };
            outgoing.Announced[number] = next;
            Volatile.Write(ref pair->Announced, number);
            _moves++;
        }

        if (Volatile.Read(ref pair->Refused) is not 0 and var refused && outgoing.Announced.TryGetValue(refused, out var unwanted))
            throw Mismatch(Rank, unwanted.Count, unwanted.Type, peer, pair->Wish, unwanted.Tag);
        while (outgoing.Announced.Count > 0)
        {
            var accepted = Volatile.Read(ref pair->Accepted);
            if (!outgoing.Announced.TryGetValue(accepted, out var message))
                return; // nothing new is wanted
            while (!message.HasMovedAll && pair->Filled - Volatile.Read(ref pair->Taken) < Slots)
            {
                message.Moved += Copy(message, Slot(pair, pair->Filled), outwards: true);
                Volatile.Write(ref pair->Filled, pair->Filled + 1);
                _moves++;
            }

            if (!message.HasMovedAll)
                return;
            outgoing.Announced.Remove(accepted);
            End(message);
        }
    }

    private void AdvanceIncoming(int peer, Incoming incoming)
    {
        var pair = Pair(peer, Rank);
        for (; pair->Seen < Volatile.Read(ref pair->Announced); _moves++)
        {
            incoming.Offers.Add((pair->Seen + 1, AnnouncementAt(pair, pair->Seen + 1)));
            Volatile.Write(ref pair->Seen, pair->Seen + 1);
        }

        while (incoming.Current is not null || Accept(peer, pair, incoming))
        {
            var message = incoming.Current!;
            while (!message.HasMovedAll && pair->Taken < Volatile.Read(ref pair->Filled))
            {
                message.Moved += Copy(message, Slot(pair, pair->Taken), outwards: false);
                Volatile.Write(ref pair->Taken, pair->Taken + 1);
                _moves++;
            }

            if (!message.HasMovedAll)
                return;
            incoming.Current = null;
            End(message);
        }
    }

    /// <summary>Asks for the oldest message that this rank wants and the other has.</summary>
    private bool Accept(int peer, PairBlock* pair, Incoming incoming)
    {
        foreach (var wanted in incoming.Wanted)
        {
            var index = incoming.Offers.FindIndex(offer => offer.Header.Tag == wanted.Tag);
            if (index < 0)
                continue;
            var (number, header) = incoming.Offers[index];
            if (header.Count != wanted.Count || header.Type != wanted.Type)
            {
                pair->Wish = new Announcement { Count = wanted.Count, Tag = wanted.Tag, Type = wanted.Type };
                Volatile.Write(ref pair->Refused, number);
                throw Mismatch(peer, header.Count, header.Type, Rank, pair->Wish, wanted.Tag);
            }

            incoming.Offers.RemoveAt(index);
            incoming.Wanted.Remove(wanted);
            incoming.Current = wanted;
            Volatile.Write(ref pair->Accepted, number);
            _moves++;
            return true;
        }

        return false;
    }

    /// <summary>Copies the next piece. A message without elements has one empty piece, so that the sender sees that it was accepted.</summary>
    private long Copy(Message message, byte* slot, bool outwards)
    {
        var bytes = Math.Min(_slotBytes, message.Bytes - message.Moved);
        var place = message.Data + message.Moved;
        CacheCopy.Copy(outwards ? slot : place, outwards ? place : slot, bytes);
        message.HasMovedAll = message.Moved + bytes == message.Bytes;
        return bytes;
    }

    private void End(Message message)
    {
        _pending--;
        message.Complete(null);
    }

    private CollectiveMismatchException Mismatch(int from, long count, ScalarType type, int to, Announcement wish, int tag) =>
        new($"{World.Me}: {World.NameOf(from)} sends {count} × {type} to {World.NameOf(to)} with tag {tag}, which receives {wish.Count} × {wish.Type}. " +
            "Messages of one tag are matched in the order of the calls: Send and Recv must name the same data type and element count.");

    /// <summary>A message on this rank's side.</summary>
    internal sealed class Message(byte* data, long count, ScalarType type, int peer, int tag, bool isOutgoing) : SharedMemoryRequest
    {
        public byte* Data { get; } = data;

        public long Count { get; } = count;

        public ScalarType Type { get; } = type;

        public int Peer { get; } = peer;

        public int Tag { get; } = tag;

        public bool IsOutgoing { get; } = isOutgoing;

        public long Bytes { get; } = count * type.SizeInBytes();

        public long Moved { get; set; }

        public bool HasMovedAll { get; set; }

        public string Describe(SharedMemoryWorld world) =>
            $"{(IsOutgoing ? "Send" : "Recv")} of {Count} × {Type} {(IsOutgoing ? "to" : "from")} {world.NameOf(Peer)} with tag {Tag}";
    }

    /// <summary>What this rank has for another.</summary>
    private sealed class Outgoing
    {
        public Queue<Message> Unannounced { get; } = [];

        public Dictionary<long, Message> Announced { get; } = [];

        public bool IsIdle => Unannounced.Count == 0 && Announced.Count == 0;

        public void Clear(DistributedException failure)
        {
            foreach (var message in Unannounced.Concat(Announced.Values))
                message.Complete(failure);
            Unannounced.Clear();
            Announced.Clear();
        }
    }

    /// <summary>What this rank wants of another, and what that one has.</summary>
    private sealed class Incoming
    {
        public List<Message> Wanted { get; } = [];

        public List<(long Number, Announcement Header)> Offers { get; } = [];

        public Message? Current { get; set; }

        public bool IsIdle => Wanted.Count == 0 && Current is null;

        public void Clear(DistributedException failure)
        {
            foreach (var message in Wanted)
                message.Complete(failure);
            Wanted.Clear();
            Current?.Complete(failure);
            Current = null;
        }
    }

    private struct Announcement
    {
        public long Count;
        public int Tag;
        public ScalarType Type;
    }

    /// <summary>The counters of a pair, those of each side on lines of their own.</summary>
    private struct PairBlock
    {
        /// <summary>The sender's: messages announced, slots filled.</summary>
        public long Announced, Filled;
        private fixed byte _line0[LineBytes - 16];

        /// <summary>The receiver's: announcements seen, the message that is wanted now, slots emptied.</summary>
        public long Seen, Accepted, Taken;
        private fixed byte _line1[LineBytes - 24];

        /// <summary>The receiver's, once: the message that does not fit, and what would.</summary>
        public long Refused;
        public Announcement Wish;
    }
}
