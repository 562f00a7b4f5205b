using FabricSharp.Collectives.SharedMemory;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Mpi;

/// <summary>
/// Operations that combine the ranks' elements. Each rank combines its share of every piece, in rank order and with the kernels of the shm
/// back end: the same bits as there, 16-bit types rounded once. Data move as bytes.
/// </summary>
internal abstract unsafe class MpiReduction(MpiCall call, Tensor? kept, Tensor? alsoKept = null) : MpiOperation(call, kept, alsoKept)
{
    protected int ElementBytes => (int)Call.Type.SizeInBytes();

    /// <summary>Elements of one piece.</summary>
    protected int PieceElements(MpiChannel channel) => channel.PieceBytes / ElementBytes;

    /// <summary>Combines this rank's elements with those of the others, which lie one rank after the other in <paramref name="others"/>.</summary>
    protected void Combine(MpiChannel channel, IntPtr mine, IntPtr others, long stride, IntPtr result, long count)
    {
        var sources = stackalloc byte*[channel.Size];
        for (var rank = 0; rank < channel.Size; rank++)
            sources[rank] = rank == channel.Rank ? (byte*)mine : (byte*)others + rank * stride;
        if (mine == result && channel.Rank >= 2) // the kernels overwrite the result with what the first ranks give
        {
            sources[channel.Rank] = (byte*)others + channel.Rank * stride;
            CacheCopy.Copy(sources[channel.Rank], (byte*)mine, count * ElementBytes);
        }

        var destination = (byte*)result;
        Reduction.Run(Call.Operation, Call.Type, sources, channel.Size, &destination, 1, count);
    }

    /// <summary>Combines what came with the calls.</summary>
    protected void CombineInline(MpiChannel channel, byte* result, long count)
    {
        var sources = stackalloc byte*[channel.Size];
        for (var rank = 0; rank < channel.Size; rank++)
            sources[rank] = PayloadOf(channel, rank);
        var destination = result;
        Reduction.Run(Call.Operation, Call.Type, sources, channel.Size, &destination, 1, count);
    }

    /// <summary>Room for the others' parts of at most a share of a piece.</summary>
    protected static IntPtr TakeStaging(MpiChannel channel) => (IntPtr)channel.Staging.Take();

    protected static void GiveStaging(MpiChannel channel, IntPtr staging) => channel.Staging.Give((byte*)staging);
}

internal sealed unsafe class MpiAllReduce(IntPtr data, long count, ScalarType type, ReduceOp op, Tensor kept)
    : MpiReduction(new MpiCall(MpiCollective.AllReduce, op, type, count), kept)
{
    public override bool IsInline(MpiChannel channel) => count * ElementBytes <= channel.InlineBytes;

    protected override int PayloadFor(MpiChannel channel, int peer) => IsInline(channel) ? (int)(count * ElementBytes) : 0;

    protected override void WritePayload(MpiChannel channel, int peer, byte* to) => Buffer.MemoryCopy((void*)data, to, channel.InlineBytes, PayloadFor(channel, peer));

    protected override void FinishInline(MpiChannel channel) => CombineInline(channel, (byte*)data, count);

    protected override IEnumerable<IEnumerator<MpiTransfer>> Pieces(MpiChannel channel)
    {
        for (long begin = 0, piece = 0; begin < count; begin += PieceElements(channel), piece++)
            yield return Piece(channel, data + (nint)(begin * ElementBytes), Math.Min(PieceElements(channel), count - begin), piece);
    }

    /// <summary>Every rank gets its share from all, combines it, and gives the result to all.</summary>
    private IEnumerator<MpiTransfer> Piece(MpiChannel channel, IntPtr start, long length, long piece)
    {
        var staging = TakeStaging(channel);
        var (mine, stride) = MpiShare.Of(start, length, Call.Type, channel.Rank, channel.Size);
        yield return MpiShare.Exchange(channel, Sequence, piece, 0, peer => MpiShare.Of(start, length, Call.Type, peer, channel.Size), peer => (staging + (nint)(peer * stride), stride));
        Combine(channel, mine, staging, stride, mine, stride / ElementBytes);
        GiveStaging(channel, staging);
        yield return MpiShare.Exchange(channel, Sequence, piece, 1, _ => (mine, stride), peer => MpiShare.Of(start, length, Call.Type, peer, channel.Size));
    }
}

internal sealed unsafe class MpiReduce(IntPtr data, long count, ScalarType type, ReduceOp op, int root, Tensor kept)
    : MpiReduction(new MpiCall(MpiCollective.Reduce, op, type, count, root), kept)
{
    public override bool IsInline(MpiChannel channel) => count * ElementBytes <= channel.InlineBytes;

    protected override int PayloadFor(MpiChannel channel, int peer) => IsInline(channel) && (peer == root || channel.Rank == root) ? (int)(count * ElementBytes) : 0;

    protected override void WritePayload(MpiChannel channel, int peer, byte* to) =>
        Buffer.MemoryCopy((void*)data, to, channel.InlineBytes, IsInline(channel) ? count * ElementBytes : 0);

    protected override void FinishInline(MpiChannel channel)
    {
        if (channel.Rank == root)
            CombineInline(channel, (byte*)data, count);
    }

    protected override IEnumerable<IEnumerator<MpiTransfer>> Pieces(MpiChannel channel)
    {
        for (long begin = 0, piece = 0; begin < count; begin += PieceElements(channel), piece++)
            yield return Piece(channel, data + (nint)(begin * ElementBytes), Math.Min(PieceElements(channel), count - begin), piece);
    }

    /// <summary>As an all-reduce, but the shares go to the root only, from beside the tensors, which keep their content.</summary>
    private IEnumerator<MpiTransfer> Piece(MpiChannel channel, IntPtr start, long length, long piece)
    {
        var (staging, result) = (TakeStaging(channel), TakeStaging(channel));
        var (mine, stride) = MpiShare.Of(start, length, Call.Type, channel.Rank, channel.Size);
        yield return MpiShare.Exchange(channel, Sequence, piece, 0, peer => MpiShare.Of(start, length, Call.Type, peer, channel.Size), peer => (staging + (nint)(peer * stride), stride));
        var target = channel.Rank == root ? mine : result;
        Combine(channel, mine, staging, stride, target, stride / ElementBytes);
        yield return MpiShare.Exchange(channel, Sequence, piece, 1,
            peer => peer == root ? (target, stride) : null, peer => channel.Rank == root ? MpiShare.Of(start, length, Call.Type, peer, channel.Size) : null);
        GiveStaging(channel, staging);
        GiveStaging(channel, result);
    }
}

internal sealed unsafe class MpiReduceScatter(IntPtr input, IntPtr output, long count, ScalarType type, ReduceOp op, Tensor kept, Tensor alsoKept)
    : MpiReduction(new MpiCall(MpiCollective.ReduceScatter, op, type, count), kept, alsoKept)
{
    protected override bool PayloadDiffers => true;

    public override bool IsInline(MpiChannel channel) => count * ElementBytes <= channel.InlineBytes;

    protected override int PayloadFor(MpiChannel channel, int peer) => IsInline(channel) ? (int)(count * ElementBytes) : 0;

    protected override void WritePayload(MpiChannel channel, int peer, byte* to) =>
        Buffer.MemoryCopy((byte*)input + peer * count * ElementBytes, to, channel.InlineBytes, PayloadFor(channel, peer));

    protected override void FinishInline(MpiChannel channel)
    {
        WritePayload(channel, channel.Rank, PayloadOf(channel, channel.Rank));
        CombineInline(channel, (byte*)output, count);
    }

    protected override IEnumerable<IEnumerator<MpiTransfer>> Pieces(MpiChannel channel)
    {
        var elements = Math.Max(1, PieceElements(channel) / channel.Size);
        for (long begin = 0, piece = 0; begin < count; begin += elements, piece++)
            yield return Piece(channel, begin * ElementBytes, Math.Min(elements, count - begin) * ElementBytes, piece);
    }

    private IEnumerator<MpiTransfer> Piece(MpiChannel channel, long at, long bytes, long piece)
    {
        var staging = TakeStaging(channel);
        IntPtr PartFor(int peer) => input + (nint)(peer * count * ElementBytes + at);
        yield return MpiShare.Exchange(channel, Sequence, piece, 0, peer => (PartFor(peer), bytes), peer => (staging + (nint)(peer * bytes), bytes));
        Combine(channel, PartFor(channel.Rank), staging, bytes, output + (nint)at, bytes / ElementBytes);
        GiveStaging(channel, staging);
    }
}

/// <summary>Which bytes go where.</summary>
internal static unsafe class MpiShare
{
    /// <summary>A rank's share of elements that all ranks work on together.</summary>
    public static (IntPtr Start, long Bytes) Of(IntPtr start, long count, ScalarType type, int rank, int size)
    {
        var (begin, length) = Reduction.Share(count, type, rank, size);
        return (start + (nint)(begin * type.SizeInBytes()), length * type.SizeInBytes());
    }

    /// <summary>Starts sending to and receiving from each other rank that which the functions say; null is nothing, and so are no bytes.</summary>
    public static MpiTransfer Exchange(MpiChannel channel, long sequence, long piece, int phase, Func<int, (IntPtr Start, long Bytes)?> outgoing, Func<int, (IntPtr Start, long Bytes)?> incoming)
    {
        var transfer = new MpiTransfer();
        var tag = MpiChannel.TagOf(sequence, piece, phase);
        for (var i = 1; i < channel.Size; i++)
        {
            var from = (channel.Rank + channel.Size - i) % channel.Size;
            if (incoming(from) is { Bytes: > 0 } place)
                transfer.Add(channel.Api.Receive((byte*)place.Start, checked((int)place.Bytes), from, tag, channel.Communicator));
        }

        for (var i = 1; i < channel.Size; i++)
        {
            var to = (channel.Rank + i) % channel.Size;
            if (outgoing(to) is { Bytes: > 0 } place)
                transfer.Add(channel.Api.Send((byte*)place.Start, checked((int)place.Bytes), to, tag, channel.Communicator));
        }

        return transfer;
    }
}
