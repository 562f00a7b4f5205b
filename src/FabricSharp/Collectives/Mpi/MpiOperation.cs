using System.Runtime.InteropServices;
using FabricSharp.Interop.Mpi;
using TorchSharp;

namespace FabricSharp.Collectives.Mpi;

/// <summary>
/// A collective operation. First every rank sends its call to every other one, with the data where these are few: so differing calls are
/// found before anything is moved, and a rank that does not come is known. Then larger data are moved piece by piece.
/// </summary>
internal abstract unsafe class MpiOperation(MpiCall call, torch.Tensor? kept = null, torch.Tensor? alsoKept = null) : MpiRequest(kept, alsoKept)
{
    private readonly MpiTransfer _sends = new();
    private IntPtr[] _receives = [];
    private bool[] _arrived = [];
    private byte* _block;
    private int _missing;
    private IEnumerator<IEnumerator<MpiTransfer>>? _pieces;
    private readonly List<IEnumerator<MpiTransfer>> _moving = [];

    public MpiCall Call { get; } = call;

    /// <summary>The operation's number on its channel, from 1.</summary>
    public long Sequence { get; private set; }

    /// <summary>Whether the data travel with the call.</summary>
    public virtual bool IsInline(MpiChannel channel) => true;

    /// <summary>Bytes of data for a rank that travel with the call.</summary>
    protected virtual int PayloadFor(MpiChannel channel, int peer) => 0;

    /// <summary>Whether each rank gets other data with the call.</summary>
    protected virtual bool PayloadDiffers => false;

    protected virtual void WritePayload(MpiChannel channel, int peer, byte* to)
    {
    }

    /// <summary>With every rank's call here: what is wrong with them, though the calls are equal; null if nothing.</summary>
    protected virtual string? FindMisfit(MpiChannel channel) => null;

    /// <summary>With every rank's payload here: makes the result.</summary>
    protected virtual void FinishInline(MpiChannel channel)
    {
    }

    /// <summary>What is to be moved, in pieces that are independent of each other.</summary>
    protected virtual IEnumerable<IEnumerator<MpiTransfer>> Pieces(MpiChannel channel) => [];

    /// <summary>Sends this rank's call and asks for the others'.</summary>
    public void Post(MpiChannel channel, long sequence)
    {
        Sequence = sequence;
        _block = channel.Blocks.Take();
        _receives = new IntPtr[channel.Size];
        _arrived = new bool[channel.Size];
        _arrived[channel.Rank] = true;
        _missing = channel.Size - 1;
        if (!PayloadDiffers)
            Write(channel, channel.Rank, Area(channel, channel.Rank));
        for (var i = 1; i < channel.Size; i++)
        {
            var from = (channel.Rank + channel.Size - i) % channel.Size;
            _receives[from] = channel.Api.Receive(Area(channel, from), channel.BlockBytes, from, MpiChannel.HeaderTag, channel.Communicator);
        }

        for (var i = 1; i < channel.Size; i++)
        {
            var to = (channel.Rank + i) % channel.Size;
            var area = PayloadDiffers ? Area(channel, channel.Size + to) : Area(channel, channel.Rank);
            if (PayloadDiffers)
                Write(channel, to, area);
            _sends.Add(channel.Api.Send(area, MpiHeader.Bytes + PayloadFor(channel, to), to, MpiChannel.HeaderTag, channel.Communicator));
        }
    }

    /// <summary>Whether every rank's call is here.</summary>
    public bool HasAllCalls(MpiApi api, ref bool moved)
    {
        for (var rank = 0; _missing > 0 && rank < _arrived.Length; rank++)
        {
            if (_arrived[rank])
                continue;
            if (!api.Test(_receives[rank]))
                return false;
            _arrived[rank] = moved = true;
            _missing--;
        }

        return _missing == 0;
    }

    /// <summary>Looks at every rank, where <see cref="HasAllCalls"/> stops at the first that is missing.</summary>
    public bool IsMissing(MpiApi api, int rank)
    {
        if (!_arrived[rank] && api.Test(_receives[rank]))
        {
            _arrived[rank] = true;
            _missing--;
        }

        return !_arrived[rank];
    }

    /// <summary>The other ranks' calls are equal to this one's, or the reason why not.</summary>
    public string? FindMismatch(MpiChannel channel)
    {
        var mine = MpiHeader.Of(Call, Sequence, 0).Call; // as it looks after the journey
        for (var rank = 0; rank < channel.Size; rank++)
        {
            if (rank == channel.Rank)
                continue;
            ref var header = ref *(MpiHeader*)Area(channel, rank);
            if (header.Call == mine && header.Sequence == Sequence)
                continue;
            var calls = Enumerable.Range(0, channel.Size).Select(each => $"{channel.NameOf(each)} called {CallOf(channel, each).Describe(channel.GlobalRanks)}");
            return $"{channel.Me}: the ranks called different collectives as operation {Sequence} of '{channel.Name}': {string.Join("; ", calls)}. All ranks must call the same operations in the same order with the same sizes and types.";
        }

        return FindMisfit(channel);
    }

    /// <summary>Begins to move the data.</summary>
    /// <returns>Whether that was all.</returns>
    public bool Begin(MpiChannel channel)
    {
        if (IsInline(channel))
        {
            FinishInline(channel);
            return true;
        }

        _pieces = Pieces(channel).GetEnumerator();
        return false;
    }

    /// <summary>Moves what can be moved, with as many pieces under way at once as there is room for.</summary>
    /// <returns>Whether everything is over.</returns>
    public bool Move(MpiChannel channel, ref int room, ref bool moved)
    {
        for (var i = 0; i < _moving.Count; i++)
        {
            while (_moving[i].Current.IsOver(channel.Api))
            {
                moved = true;
                if (_moving[i].MoveNext())
                    continue;
                _moving.RemoveAt(i--);
                break;
            }
        }

        room -= _moving.Count;
        while (room > 0 && _pieces is not null)
        {
            moved = true;
            if (!_pieces.MoveNext())
            {
                _pieces = null;
            }
            else if (_pieces.Current.MoveNext())
            {
                _moving.Add(_pieces.Current);
                room--;
            }
        }

        return _pieces is null && _moving.Count == 0;
    }

    /// <summary>Whether nothing of it is under way any more; its memory is then given back.</summary>
    public bool TryEnd(MpiChannel channel)
    {
        if (!_sends.IsOver(channel.Api))
            return false;
        channel.Blocks.Give(_block);
        return true;
    }

    public override string Describe(MpiChannel channel) =>
        Sequence == 0 ? Call.Describe(channel.GlobalRanks) : $"operation {Sequence} of '{channel.Name}' ({Call.Describe(channel.GlobalRanks)})";

    public override string DescribeMissing(MpiChannel channel)
    {
        if (Sequence == 0)
            return "it waits for earlier operations of this rank";
        var missing = Enumerable.Range(0, channel.Size).Where(rank => IsMissing(channel.Api, rank)).ToList();
        return missing.Count > 0
            ? $"{RankName.OfAll(missing, channel.GlobalRanks)} did not call it"
            : "all ranks called it, but data did not arrive: a rank hangs or computes without end, or the network does not deliver";
    }

    /// <summary>What a rank sent with its call.</summary>
    protected byte* PayloadOf(MpiChannel channel, int rank) => Area(channel, rank) + MpiHeader.Bytes;

    private MpiCall CallOf(MpiChannel channel, int rank) => rank == channel.Rank ? Call : ((MpiHeader*)Area(channel, rank))->Call;

    private byte* Area(MpiChannel channel, int index) => _block + (long)index * channel.BlockBytes;

    private void Write(MpiChannel channel, int peer, byte* area)
    {
        NativeMemory.Clear(area, MpiHeader.Bytes);
        *(MpiHeader*)area = MpiHeader.Of(Call, Sequence, PayloadFor(channel, peer));
        WritePayload(channel, peer, area + MpiHeader.Bytes);
    }
}

/// <summary>Over when every rank has called.</summary>
internal sealed class MpiMeeting(MpiCall call) : MpiOperation(call);
