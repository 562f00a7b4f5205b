using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>A part of a reduce-scatter: a staging slot holds a piece for each rank, and each rank combines its own straight into its output.</summary>
internal sealed unsafe class StagedReduceScatter(byte* input, long inputStride, byte* output, long count, ScalarType type, ReduceOp op, long totalCount) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.ReduceScatter, op.Operation, type, 0, totalCount, 0, 0, op.Factor);

    public override bool NeedsStaging => true;

    public override void Post(SharedMemoryChannel channel)
    {
        for (var rank = 0; rank < channel.Size; rank++)
            CacheCopy.Copy(channel.StagingPart(channel.Rank, Slot, rank), input + rank * inputStride, count * type.SizeInBytes());
    }

    public override void Execute(SharedMemoryChannel channel)
    {
        var sources = stackalloc byte*[channel.Size];
        for (var rank = 0; rank < channel.Size; rank++)
            sources[rank] = channel.StagingPart(rank, Slot, channel.Rank);
        var destination = output;
        Reduction.Run(op, type, sources, channel.Size, &destination, 1, count);
    }
}

/// <summary>Where the parts of an all-to-all begin and how long they are, in bytes, for each rank.</summary>
internal sealed class PartLayout
{
    public PartLayout(long[] counts, long elementSize)
    {
        Begin = new long[counts.Length];
        Length = [.. counts.Select(count => count * elementSize)];
        for (var rank = 1; rank < counts.Length; rank++)
            Begin[rank] = Begin[rank - 1] + Length[rank - 1];
    }

    public long[] Begin { get; }

    public long[] Length { get; }
}

/// <summary>A piece of each part of an all-to-all: a staging slot holds one for each rank.</summary>
internal sealed unsafe class StagedAllToAll(
    byte* input, PartLayout outgoing, byte* output, PartLayout incoming, long begin, long bytes, ScalarType type, long totalCount) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.AllToAll, ReduceOp.Kind.Sum, type, 0, totalCount, 0, 0);

    public override bool NeedsStaging => true;

    public override void Post(SharedMemoryChannel channel)
    {
        for (var rank = 0; rank < channel.Size; rank++)
            if (LengthIn(outgoing, rank) is > 0 and var length)
                CacheCopy.Copy(channel.StagingPart(channel.Rank, Slot, rank), input + outgoing.Begin[rank] + begin, length);
    }

    public override void Execute(SharedMemoryChannel channel)
    {
        for (var rank = 0; rank < channel.Size; rank++)
            if (LengthIn(incoming, rank) is > 0 and var length)
                CacheCopy.Copy(output + incoming.Begin[rank] + begin, channel.StagingPart(rank, Slot, channel.Rank), length);
    }

    private long LengthIn(PartLayout layout, int rank) => Math.Min(bytes, layout.Length[rank] - begin);
}

/// <summary>Tells every rank how much each sends to and expects of each, before an all-to-all with parts of any size.</summary>
internal sealed unsafe class AllToAllSizes(long[] incoming, long[] outgoing, ScalarType type) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.AllToAllSizes, ReduceOp.Kind.Sum, type, 0, 0, 0, 0);

    public override bool NeedsInline => true;

    /// <summary>The largest part of any rank.</summary>
    public long Largest { get; private set; }

    public override void Post(SharedMemoryChannel channel)
    {
        var mine = (long*)channel.Inline(channel.Rank, Sequence);
        for (var rank = 0; rank < channel.Size; rank++)
        {
            mine[rank] = outgoing[rank];
            mine[channel.Size + rank] = incoming[rank];
        }
    }

    public override void Execute(SharedMemoryChannel channel)
    {
        var wrong = new List<string>();
        for (var from = 0; from < channel.Size; from++)
            for (var to = 0; to < channel.Size; to++)
            {
                var sent = ((long*)channel.Inline(from, Sequence))[to];
                var expected = ((long*)channel.Inline(to, Sequence))[channel.Size + from];
                Largest = Math.Max(Largest, sent);
                if (sent != expected)
                    wrong.Add($"{channel.World.NameOf(from)} sends {sent} × {type} to {channel.World.NameOf(to)}, which expects {expected}");
            }

        if (wrong.Count > 0)
            throw new CollectiveMismatchException(
                $"{channel.World.Me}: AllToAll with split sizes: {string.Join("; ", wrong)}. inputSplits[r] of each rank must equal what rank r has in outputSplits for it.");
    }
}
