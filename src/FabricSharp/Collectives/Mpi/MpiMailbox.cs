using static TorchSharp.torch;

namespace FabricSharp.Collectives.Mpi;

/// <summary>A message on this rank's side.</summary>
internal sealed class MpiMessage(IntPtr data, long count, ScalarType type, int peer, int tag, bool isOutgoing, Tensor kept) : MpiRequest(kept, null)
{
    public long Count { get; } = count;

    public ScalarType Type { get; } = type;

    public int Peer { get; } = peer;

    public int Tag { get; } = tag;

    public bool IsOutgoing { get; } = isOutgoing;

    public IntPtr Data { get; } = data;

    public long Bytes { get; } = count * type.SizeInBytes();

    /// <summary>The data, once the receiver has asked for them.</summary>
    public MpiTransfer? Transfer { get; set; }

    public override string Describe(MpiChannel channel) =>
        $"{(IsOutgoing ? "Send" : "Recv")} of {Count} × {Type} {(IsOutgoing ? "to" : "from")} {channel.NameOf(Peer)} with tag {Tag}";

    public override string DescribeMissing(MpiChannel channel) => Transfer is not null
        ? $"{channel.NameOf(Peer)} has stopped in the middle"
        : $"{channel.NameOf(Peer)} did not call {(IsOutgoing ? "Recv" : "Send")} with this rank and tag";
}

/// <summary>
/// Messages between two ranks: the sender announces one, the receiver, which knows what it wants, accepts or refuses it; then its bytes move.
/// So both sides find out when they do not agree. Under the runtime's lock.
/// </summary>
internal sealed unsafe class MpiMailbox(MpiChannel channel, MpiControl control)
{
    private const int Tags = 8192, LargestTransfer = 1 << 30;

    private readonly Dictionary<(int Peer, long Number), MpiMessage> _announced = [];
    private readonly List<MpiMessage> _wanted = [], _moving = [];
    private readonly List<(int Peer, MpiControlMessage Message)> _offers = [];
    private readonly long[] _numbers = new long[channel.Size];
    private readonly bool[] _left = new bool[channel.Size];

    public bool IsBusy => _announced.Count > 0 || _wanted.Count > 0 || _moving.Count > 0;

    public MpiRequest? Oldest() => _moving.FirstOrDefault() ?? _wanted.FirstOrDefault() ?? _announced.Values.FirstOrDefault();

    public void Add(MpiMessage message)
    {
        if (!message.IsOutgoing)
        {
            _wanted.Add(message);
            return;
        }

        var number = ++_numbers[message.Peer];
        _announced.Add((message.Peer, number), message);
        control.Send(message.Peer, new MpiControlMessage { Kind = MpiControlKind.Announce, Number = number, Count = message.Count, Tag = message.Tag, Type = message.Type });
    }

    /// <summary>From a peer.</summary>
    public void Receive(int peer, MpiControlMessage said)
    {
        switch (said.Kind)
        {
            case MpiControlKind.Announce:
                _offers.Add((peer, said));
                break;
            case MpiControlKind.Accept when _announced.Remove((peer, said.Number), out var message):
                Move(message, said.Number);
                break;
            case MpiControlKind.Refuse when _announced.TryGetValue((peer, said.Number), out var refused):
                throw Mismatch(channel.Rank, refused.Count, refused.Type, peer, said.Count, said.Type, refused.Tag);
        }
    }

    /// <summary>A peer sends and asks nothing more.</summary>
    public void Left(int peer) => _left[peer] = true;

    public bool Advance()
    {
        var moved = false;
        for (var i = 0; i < _wanted.Count; i++)
        {
            var wanted = _wanted[i];
            var index = _offers.FindIndex(offer => offer.Peer == wanted.Peer && offer.Message.Tag == wanted.Tag);
            if (index < 0)
                continue;
            var offer = _offers[index].Message;
            var fits = offer.Count == wanted.Count && offer.Type == wanted.Type;
            control.Send(wanted.Peer, new MpiControlMessage { Kind = fits ? MpiControlKind.Accept : MpiControlKind.Refuse, Number = offer.Number, Count = wanted.Count, Type = wanted.Type, Tag = wanted.Tag });
            if (!fits)
                throw Mismatch(wanted.Peer, offer.Count, offer.Type, channel.Rank, wanted.Count, wanted.Type, wanted.Tag);
            _offers.RemoveAt(index);
            _wanted.RemoveAt(i--);
            Move(wanted, offer.Number);
            moved = true;
        }

        for (var i = 0; i < _moving.Count; i++)
            if (_moving[i].Transfer!.IsOver(channel.Api))
            {
                channel.Complete(_moving[i], null);
                _moving.RemoveAt(i--);
                moved = true;
            }

        var stranded = _wanted.Concat(_announced.Values).FirstOrDefault(message => _left[message.Peer]);
        return stranded is null ? moved : throw channel.PeerFailed(stranded.Peer, "it has left the group", stranded);
    }

    public void Fail(DistributedException failure)
    {
        foreach (var message in _wanted.Concat(_announced.Values).Concat(_moving))
            channel.Complete(message, failure);
    }

    private void Move(MpiMessage message, long number)
    {
        message.Transfer = new MpiTransfer();
        _moving.Add(message);
        var data = (byte*)message.Data;
        var tag = MpiChannel.MessageTag + (int)(number % Tags);
        for (long begin = 0; begin < message.Bytes || begin == 0; begin += LargestTransfer)
        {
            var bytes = (int)Math.Min(LargestTransfer, message.Bytes - begin);
            message.Transfer.Add(message.IsOutgoing
                ? channel.Api.Send(data + begin, bytes, message.Peer, tag, channel.Communicator)
                : channel.Api.Receive(data + begin, bytes, message.Peer, tag, channel.Communicator));
        }
    }

    private CollectiveMismatchException Mismatch(int from, long count, ScalarType type, int to, long wantedCount, ScalarType wantedType, int tag) =>
        new($"{channel.Me}: {channel.NameOf(from)} sends {count} × {type} to {channel.NameOf(to)} with tag {tag}, which receives {wantedCount} × {wantedType}. " +
            "Messages of one tag are matched in the order of the calls: Send and Recv must name the same data type and element count.");
}
