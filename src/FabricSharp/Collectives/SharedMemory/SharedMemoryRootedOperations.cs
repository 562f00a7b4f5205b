using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>Reduction of a few bytes: the root reads all inputs and combines them itself.</summary>
internal sealed unsafe class InlineReduce(byte* data, long count, ScalarType type, ReduceOp op, int root) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.Reduce, op.Operation, type, root, count, 0, 0, op.Factor);

    public override bool NeedsInline => true;

    public override void Post(SharedMemoryChannel channel) =>
        CacheCopy.Copy(channel.Inline(channel.Rank, Sequence), data, count * type.SizeInBytes());

    public override void Execute(SharedMemoryChannel channel)
    {
        if (channel.Rank != root)
            return;
        var sources = stackalloc byte*[channel.Size];
        for (var rank = 0; rank < channel.Size; rank++)
            sources[rank] = channel.Inline(rank, Sequence);
        var destination = data;
        Reduction.Run(op, type, sources, channel.Size, &destination, 1, count);
    }
}

/// <summary>One staging slot of a reduction: each rank combines a part of the elements, into the root's slot.</summary>
internal sealed unsafe class StagedReduce(byte* data, long count, ScalarType type, ReduceOp op, int root, bool isRoot, long totalCount) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.Reduce, op.Operation, type, root, totalCount, 0, 0, op.Factor);

    public override bool NeedsStaging => true;

    public override bool NeedsEveryShare => isRoot;

    public override void Post(SharedMemoryChannel channel) =>
        CacheCopy.Copy(channel.Staging(channel.Rank, Slot), data, count * type.SizeInBytes());

    public override void Execute(SharedMemoryChannel channel)
    {
        var all = stackalloc byte*[channel.Size];
        var (begin, length) = Reduction.Share(count, type, channel.Rank, channel.Size);
        for (var rank = 0; rank < channel.Size; rank++)
            all[rank] = channel.Staging(rank, Slot) + begin * type.SizeInBytes();
        var destinations = stackalloc byte*[] { all[0], all[root] };
        Reduction.Run(op, type, all, channel.Size, destinations, root == 0 ? 1 : 2, length);
    }

    public override void Finish(SharedMemoryChannel channel)
    {
        if (isRoot)
            CacheCopy.Copy(data, channel.Staging(root, Slot), count * type.SizeInBytes());
    }
}

/// <summary>One staging slot of each rank in a gather.</summary>
internal sealed unsafe class StagedGather(byte* input, byte* output, long outputStride, int bytes, int root, ScalarType type, long totalCount) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.Gather, ReduceOp.Kind.Sum, type, root, totalCount, 0, 0);

    public override bool NeedsStaging => true;

    public override void Post(SharedMemoryChannel channel)
    {
        if (channel.Rank != root)
            CacheCopy.Copy(channel.Staging(channel.Rank, Slot), input, bytes);
    }

    public override void Execute(SharedMemoryChannel channel)
    {
        if (channel.Rank != root)
            return;
        for (var rank = 0; rank < channel.Size; rank++)
            CacheCopy.Copy(output + rank * outputStride, rank == root ? input : channel.Staging(rank, Slot), bytes);
    }
}

/// <summary>One staging slot for each rank in a scatter: the root writes into the slots of the others, which are as free as its own.</summary>
internal sealed unsafe class StagedScatter(byte* input, long inputStride, byte* output, int bytes, int root, ScalarType type, long totalCount) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.Scatter, ReduceOp.Kind.Sum, type, root, totalCount, 0, 0);

    public override bool NeedsStaging => true;

    public override void Post(SharedMemoryChannel channel)
    {
        if (channel.Rank != root)
            return;
        for (var rank = 0; rank < channel.Size; rank++)
            CacheCopy.Copy(rank == root ? output : channel.Staging(rank, Slot), input + rank * inputStride, bytes);
    }

    public override void Execute(SharedMemoryChannel channel)
    {
        if (channel.Rank != root)
            CacheCopy.Copy(output, channel.Staging(channel.Rank, Slot), bytes);
    }
}
