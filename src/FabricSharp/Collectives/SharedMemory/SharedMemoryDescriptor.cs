using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

internal enum CollectiveKind : byte
{
    AllReduce,
    Broadcast,
    AllGather,
    Barrier,
    Exchange,
    BucketReduce,
    PoolReduce,
}

/// <summary>What a rank calls; must be the same on all ranks, but for <see cref="Place"/>: where its data lies in the memory that it shows.</summary>
internal record struct SharedMemoryDescriptor(
    long Sequence,
    CollectiveKind Kind,
    ReduceOp.Kind Operation,
    ScalarType Type,
    int Root,
    long ElementCount,
    long Buffer,
    long Offset,
    double Factor = 1,
    long Place = 0)
{
    /// <summary>Whether two ranks call the same.</summary>
    public readonly bool Matches(SharedMemoryDescriptor other) => this == other with { Place = Place };

    public readonly override string ToString() => Kind switch
    {
        CollectiveKind.Barrier => "Barrier",
        CollectiveKind.Exchange => $"the end of a backward pass, {ElementCount} bytes",
        CollectiveKind.BucketReduce => $"Reduce of {ElementCount} × {Type} at byte {Offset} of bucket buffer {Buffer}",
        CollectiveKind.PoolReduce => $"Reduce of {ElementCount} × {Type}, gradient {Offset} of reducer memory {Buffer}",
        CollectiveKind.Broadcast => $"Broadcast of {ElementCount} × {Type} from rank {Root}",
        CollectiveKind.AllReduce => $"AllReduce({(Operation == ReduceOp.Kind.PreMulSum ? ReduceOp.PreMulSum(Factor) : Operation)}) of {ElementCount} × {Type}",
        _ => $"{Kind} of {ElementCount} × {Type}",
    };
}
