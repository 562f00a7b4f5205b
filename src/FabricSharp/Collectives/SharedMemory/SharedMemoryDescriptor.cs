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
}

/// <summary>What a rank calls; must be the same on all ranks.</summary>
internal record struct SharedMemoryDescriptor(
    long Sequence,
    CollectiveKind Kind,
    ReduceOp.Kind Operation,
    ScalarType Type,
    int Root,
    long ElementCount,
    long Buffer,
    long Offset,
    double Factor = 1)
{
    public readonly override string ToString() => Kind switch
    {
        CollectiveKind.Barrier => "Barrier",
        CollectiveKind.Exchange => $"the end of a backward pass, {ElementCount} bytes",
        CollectiveKind.BucketReduce => $"Reduce of {ElementCount} × {Type} at byte {Offset} of bucket buffer {Buffer}",
        CollectiveKind.Broadcast => $"Broadcast of {ElementCount} × {Type} from rank {Root}",
        CollectiveKind.AllReduce => $"AllReduce({(Operation == ReduceOp.Kind.PreMulSum ? ReduceOp.PreMulSum(Factor) : Operation)}) of {ElementCount} × {Type}",
        _ => $"{Kind} of {ElementCount} × {Type}",
    };
}
