using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>All-reduce of a few bytes: every rank reads all inputs and combines them itself, in rank order, so all get the same bits.</summary>
internal sealed unsafe class InlineAllReduce(byte* data, long count, ScalarType type, ReduceOp op) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.AllReduce, op.Operation, type, 0, count, 0, 0, op.Factor);

    public override bool NeedsInline => true;

    public override void Post(SharedMemoryChannel channel) =>
        CacheCopy.Copy(channel.Inline(channel.Rank, Sequence), data, count * type.SizeInBytes());

    public override void Execute(SharedMemoryChannel channel)
    {
        var sources = stackalloc byte*[channel.Size];
        for (var rank = 0; rank < channel.Size; rank++)
            sources[rank] = channel.Inline(rank, Sequence);
        var destination = data;
        Reduction.Run(op, type, sources, channel.Size, &destination, 1, count);
    }
}

/// <summary>All-reduce of one staging slot: each rank combines a part of the elements for all.</summary>
internal sealed unsafe class StagedAllReduce(byte* data, long count, ScalarType type, ReduceOp op, long totalCount) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.AllReduce, op.Operation, type, 0, totalCount, 0, 0, op.Factor);

    public override bool NeedsStaging => true;

    public override bool NeedsEveryShare => true;

    public override void Post(SharedMemoryChannel channel) =>
        CacheCopy.Copy(channel.Staging(channel.Rank, Slot), data, count * type.SizeInBytes());

    public override void Execute(SharedMemoryChannel channel)
    {
        var all = stackalloc byte*[channel.Size];
        var (begin, length) = Reduction.Share(count, type, channel.Rank, channel.Size);
        for (var rank = 0; rank < channel.Size; rank++)
            all[rank] = channel.Staging(rank, Slot) + begin * type.SizeInBytes();
        Reduction.Run(op, type, all, channel.Size, all, channel.Size, length);
    }

    public override void Finish(SharedMemoryChannel channel) =>
        CacheCopy.Copy(data, channel.Staging(channel.Rank, Slot), count * type.SizeInBytes());
}

/// <summary>Averaging of a piece of a bucket where it lies: each rank combines a part of the elements, reading and writing all ranks' buckets.</summary>
internal sealed unsafe class BucketReduce(SharedMemoryBuffer buffer, long offset, long count, ScalarType type, double scale) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.BucketReduce, ReduceOp.Kind.PreMulSum, type, 0, count, buffer.Number, offset, scale);

    public override bool NeedsEveryShare => true;

    public override void Execute(SharedMemoryChannel channel)
    {
        var all = stackalloc byte*[channel.Size];
        var (begin, length) = Reduction.Share(count, type, channel.Rank, channel.Size);
        for (var rank = 0; rank < channel.Size; rank++)
            all[rank] = buffer.Of(rank) + offset + begin * type.SizeInBytes();
        Reduction.Run(ReduceOp.PreMulSum(scale), type, all, channel.Size, all, channel.Size, length);
    }
}

/// <summary>Averaging of one gradient where it lies, in another place of the pool on each rank.</summary>
internal sealed unsafe class PoolReduce(SharedMemoryGradientPool pool, long number, int owner, IntPtr data, long count, ScalarType type, double scale) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.PoolReduce, ReduceOp.Kind.PreMulSum, type, 0, count, number, owner, scale, pool.OffsetOf(data));

    public override bool NeedsEveryShare => true;

    public override void Execute(SharedMemoryChannel channel)
    {
        var all = stackalloc byte*[channel.Size];
        var (begin, length) = Reduction.Share(count, type, channel.Rank, channel.Size);
        for (var rank = 0; rank < channel.Size; rank++)
        {
            var place = channel.PlaceOf(rank, Sequence);
            if (place < 0 || place > pool.Length - count * type.SizeInBytes())
                throw new DistributedException($"Rank {channel.Rank}: rank {rank} says that its gradient lies at byte {place} of a memory of {pool.Length} bytes.");
            all[rank] = pool.Of(rank) + place + begin * type.SizeInBytes();
        }

        Reduction.Run(ReduceOp.PreMulSum(scale), type, all, channel.Size, all, channel.Size, length);
    }
}

/// <summary>One staging slot of a broadcast.</summary>
internal sealed unsafe class StagedBroadcast(byte* data, int bytes, int root, ScalarType type, long totalCount) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.Broadcast, ReduceOp.Kind.Sum, type, root, totalCount, 0, 0);

    public override bool NeedsStaging => true;

    public override void Post(SharedMemoryChannel channel)
    {
        if (channel.Rank == root)
            CacheCopy.Copy(channel.Staging(root, Slot), data, bytes);
    }

    public override void Execute(SharedMemoryChannel channel)
    {
        if (channel.Rank != root)
            CacheCopy.Copy(data, channel.Staging(root, Slot), bytes);
    }
}

/// <summary>One staging slot of an all-gather.</summary>
internal sealed unsafe class StagedAllGather(byte* input, byte* output, long outputStride, int bytes, ScalarType type, long totalCount) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.AllGather, ReduceOp.Kind.Sum, type, 0, totalCount, 0, 0);

    public override bool NeedsStaging => true;

    public override void Post(SharedMemoryChannel channel) =>
        CacheCopy.Copy(channel.Staging(channel.Rank, Slot), input, bytes);

    public override void Execute(SharedMemoryChannel channel)
    {
        for (var rank = 0; rank < channel.Size; rank++)
            CacheCopy.Copy(output + rank * outputStride, channel.Staging(rank, Slot), bytes);
    }
}

/// <summary>Nothing but the milestones: over when every rank has posted.</summary>
internal sealed class BarrierOperation(CollectiveKind kind = CollectiveKind.Barrier) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, kind, ReduceOp.Kind.Sum, ScalarType.Byte, 0, 0, 0, 0);
}

/// <summary>All-gather of small messages between reducers.</summary>
internal sealed unsafe class ExchangeOperation(byte* mine, byte* all, int bytes) : SharedMemoryOperation
{
    public override SharedMemoryDescriptor Descriptor => new(0, CollectiveKind.Exchange, ReduceOp.Kind.Sum, ScalarType.Byte, 0, bytes, 0, 0);

    public override bool NeedsInline => true;

    public override void Post(SharedMemoryChannel channel) =>
        CacheCopy.Copy(channel.Inline(channel.Rank, Sequence), mine, bytes);

    public override void Execute(SharedMemoryChannel channel)
    {
        for (var rank = 0; rank < channel.Size; rank++)
            CacheCopy.Copy(all + rank * bytes, channel.Inline(rank, Sequence), bytes);
    }
}
