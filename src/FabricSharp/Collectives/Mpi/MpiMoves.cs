using static TorchSharp.torch;

namespace FabricSharp.Collectives.Mpi;

/// <summary>From one rank to all: large tensors in shares, so that the root does not send everything to everyone.</summary>
internal sealed unsafe class MpiBroadcast(IntPtr data, long count, ScalarType type, int root, Tensor kept)
    : MpiOperation(new MpiCall(MpiCollective.Broadcast, default, type, count, root), kept)
{
    private readonly long _bytes = count * type.SizeInBytes();

    public override bool IsInline(MpiChannel channel) => _bytes <= channel.InlineBytes;

    protected override int PayloadFor(MpiChannel channel, int peer) => IsInline(channel) && channel.Rank == root ? (int)_bytes : 0;

    protected override void WritePayload(MpiChannel channel, int peer, byte* to) => Buffer.MemoryCopy((void*)data, to, channel.InlineBytes, PayloadFor(channel, peer));

    protected override void FinishInline(MpiChannel channel)
    {
        if (channel.Rank != root)
            Buffer.MemoryCopy(PayloadOf(channel, root), (void*)data, _bytes, _bytes);
    }

    protected override IEnumerable<IEnumerator<MpiTransfer>> Pieces(MpiChannel channel)
    {
        for (long begin = 0, piece = 0; begin < _bytes; begin += channel.PieceBytes, piece++)
            yield return Piece(channel, data + (nint)begin, Math.Min(channel.PieceBytes, _bytes - begin), piece);
    }

    private IEnumerator<MpiTransfer> Piece(MpiChannel channel, IntPtr start, long length, long piece)
    {
        (IntPtr, long) ShareOf(int rank) => MpiShare.Of(start, length, ScalarType.Byte, rank, channel.Size);
        var isRoot = channel.Rank == root;
        yield return MpiShare.Exchange(channel, Sequence, piece, 0, peer => isRoot ? ShareOf(peer) : null, peer => peer == root ? ShareOf(channel.Rank) : null);
        yield return MpiShare.Exchange(channel, Sequence, piece, 1, peer => peer == root ? null : ShareOf(channel.Rank), peer => isRoot ? null : ShareOf(peer));
    }
}

/// <summary>Operations in which each pair of ranks has its part to move, in one step.</summary>
internal abstract unsafe class MpiParts(MpiCall call, Tensor? kept, Tensor? alsoKept) : MpiOperation(call, kept, alsoKept)
{
    /// <summary>What a rank gets from this one; for this rank itself, what it gives to itself. Null is nothing.</summary>
    protected abstract (IntPtr Start, long Bytes)? Outgoing(MpiChannel channel, int peer);

    /// <summary>Where that of a rank is to go.</summary>
    protected abstract (IntPtr Start, long Bytes)? Incoming(MpiChannel channel, int peer);

    protected override bool PayloadDiffers => true;

    protected override int PayloadFor(MpiChannel channel, int peer) => IsInline(channel) ? (int)(Outgoing(channel, peer)?.Bytes ?? 0) : 0;

    protected override void WritePayload(MpiChannel channel, int peer, byte* to)
    {
        if (PayloadFor(channel, peer) is > 0 and var bytes)
            Buffer.MemoryCopy((void*)Outgoing(channel, peer)!.Value.Start, to, bytes, bytes);
    }

    protected override void FinishInline(MpiChannel channel)
    {
        CopyOwn(channel);
        for (var peer = 0; peer < channel.Size; peer++)
            if (peer != channel.Rank && Incoming(channel, peer) is { Bytes: > 0 } place)
                Buffer.MemoryCopy(PayloadOf(channel, peer), (void*)place.Start, place.Bytes, place.Bytes);
    }

    protected override IEnumerable<IEnumerator<MpiTransfer>> Pieces(MpiChannel channel)
    {
        CopyOwn(channel);
        var peers = Enumerable.Range(0, channel.Size).Where(peer => peer != channel.Rank).ToList();
        var longest = peers.Select(peer => Math.Max(Outgoing(channel, peer)?.Bytes ?? 0, Incoming(channel, peer)?.Bytes ?? 0)).DefaultIfEmpty().Max();
        for (long begin = 0, piece = 0; begin < longest; begin += channel.PieceBytes, piece++)
            yield return Piece(channel, begin, piece);
    }

    private IEnumerator<MpiTransfer> Piece(MpiChannel channel, long begin, long piece)
    {
        (IntPtr, long)? Cut((IntPtr Start, long Bytes)? part) =>
            part is { } whole ? (whole.Start + (nint)begin, Math.Clamp(whole.Bytes - begin, 0, channel.PieceBytes)) : null;
        yield return MpiShare.Exchange(channel, Sequence, piece, 0, peer => Cut(Outgoing(channel, peer)), peer => Cut(Incoming(channel, peer)));
    }

    private void CopyOwn(MpiChannel channel)
    {
        if (Outgoing(channel, channel.Rank) is { Bytes: > 0 } from && Incoming(channel, channel.Rank) is { } to && from.Start != to.Start)
            Buffer.MemoryCopy((void*)from.Start, (void*)to.Start, to.Bytes, from.Bytes);
    }
}

/// <summary>AllGather, and Gather, where only the root receives.</summary>
internal sealed unsafe class MpiGather(IntPtr input, IntPtr output, long count, ScalarType type, int? root, Tensor kept, Tensor? alsoKept)
    : MpiParts(new MpiCall(root is null ? MpiCollective.AllGather : MpiCollective.Gather, default, type, count, root ?? 0), kept, alsoKept)
{
    private readonly long _bytes = count * type.SizeInBytes();

    public override bool IsInline(MpiChannel channel) => _bytes <= channel.InlineBytes;

    protected override (IntPtr Start, long Bytes)? Outgoing(MpiChannel channel, int peer) => root is null || root == peer ? (input, _bytes) : null;

    protected override (IntPtr Start, long Bytes)? Incoming(MpiChannel channel, int peer) =>
        root is null || root == channel.Rank ? (output + (nint)(peer * _bytes), _bytes) : null;
}

internal sealed unsafe class MpiScatter(IntPtr input, IntPtr output, long count, ScalarType type, int root, Tensor kept, Tensor? alsoKept)
    : MpiParts(new MpiCall(MpiCollective.Scatter, default, type, count, root), kept, alsoKept)
{
    private readonly long _bytes = count * type.SizeInBytes();

    public override bool IsInline(MpiChannel channel) => _bytes <= channel.InlineBytes;

    protected override (IntPtr Start, long Bytes)? Outgoing(MpiChannel channel, int peer) => root == channel.Rank ? (input + (nint)(peer * _bytes), _bytes) : null;

    protected override (IntPtr Start, long Bytes)? Incoming(MpiChannel channel, int peer) => root == peer ? (output, _bytes) : null;
}

internal sealed unsafe class MpiAllToAll(IntPtr input, IntPtr output, long count, ScalarType type, Tensor kept, Tensor alsoKept)
    : MpiParts(new MpiCall(MpiCollective.AllToAll, default, type, count), kept, alsoKept)
{
    private readonly long _bytes = count * type.SizeInBytes();

    public override bool IsInline(MpiChannel channel) => _bytes <= channel.InlineBytes;

    protected override (IntPtr Start, long Bytes)? Outgoing(MpiChannel channel, int peer) => (input + (nint)(peer * _bytes), _bytes);

    protected override (IntPtr Start, long Bytes)? Incoming(MpiChannel channel, int peer) => (output + (nint)(peer * _bytes), _bytes);
}

/// <summary>Parts of any size. What each rank sends and expects travels with the call, so that all see whether it fits.</summary>
internal sealed unsafe class MpiAllToAllSplits(IntPtr input, long[] inputCounts, IntPtr output, long[] outputCounts, ScalarType type, Tensor kept, Tensor alsoKept)
    : MpiParts(new MpiCall(MpiCollective.AllToAllSplits, default, type), kept, alsoKept)
{
    public override bool IsInline(MpiChannel channel) => false;

    protected override bool PayloadDiffers => false;

    protected override int PayloadFor(MpiChannel channel, int peer) => 2 * sizeof(long) * channel.Size;

    protected override void WritePayload(MpiChannel channel, int peer, byte* to)
    {
        inputCounts.CopyTo(new Span<long>(to, channel.Size));
        outputCounts.CopyTo(new Span<long>(to + sizeof(long) * channel.Size, channel.Size));
    }

    protected override string? FindMisfit(MpiChannel channel)
    {
        for (var from = 0; from < channel.Size; from++)
            for (var to = 0; to < channel.Size; to++)
            {
                var (sent, expected) = (((long*)PayloadOf(channel, from))[to], ((long*)PayloadOf(channel, to))[channel.Size + from]);
                if (sent != expected)
                    return $"{channel.Me}: AllToAll: {channel.NameOf(from)} sends {sent} × {type} to {channel.NameOf(to)}, which expects {expected}. What a rank's inputSplits say for another must be what that one's outputSplits say for it.";
            }

        return null;
    }

    protected override (IntPtr Start, long Bytes)? Outgoing(MpiChannel channel, int peer) => PartOf(input, inputCounts, peer);

    protected override (IntPtr Start, long Bytes)? Incoming(MpiChannel channel, int peer) => PartOf(output, outputCounts, peer);

    private (IntPtr Start, long Bytes) PartOf(IntPtr start, long[] counts, int peer)
    {
        var size = type.SizeInBytes();
        return (start + (nint)(counts.AsSpan(0, peer).ToArray().Sum() * size), counts[peer] * size);
    }
}
