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
    Reduce,
    Gather,
    Scatter,
    ReduceScatter,
    AllToAll,
    AllToAllSizes,
    MonitoredBarrier,
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

    /// <summary>The call as an error shows it.</summary>
    public readonly string Describe(IReadOnlyList<int> globalRanks) => Kind switch
    {
        CollectiveKind.Barrier or CollectiveKind.MonitoredBarrier => $"{Kind}",
        CollectiveKind.Exchange => $"the end of a backward pass, {ElementCount} bytes",
        CollectiveKind.BucketReduce => $"Reduce of {ElementCount} × {Type} at byte {Offset} of bucket buffer {Buffer}",
        CollectiveKind.PoolReduce => $"Reduce of {ElementCount} × {Type}, gradient {Offset} of reducer memory {Buffer}",
        CollectiveKind.Broadcast or CollectiveKind.Scatter => $"{Kind} of {ElementCount} × {Type} from {RankName.Of(Root, globalRanks)}",
        CollectiveKind.Gather => $"Gather of {ElementCount} × {Type} to {RankName.Of(Root, globalRanks)}",
        CollectiveKind.Reduce => $"Reduce({Reduction}) of {ElementCount} × {Type} to {RankName.Of(Root, globalRanks)}",
        CollectiveKind.AllReduce or CollectiveKind.ReduceScatter => $"{Kind}({Reduction}) of {ElementCount} × {Type}",
        CollectiveKind.AllToAll => $"AllToAll of {ElementCount} × {Type} to each rank",
        CollectiveKind.AllToAllSizes => $"AllToAll of {Type} with split sizes",
        _ => $"{Kind} of {ElementCount} × {Type}",
    };

    private readonly ReduceOp Reduction => Operation == ReduceOp.Kind.PreMulSum ? ReduceOp.PreMulSum(Factor) : ReduceOp.Of(Operation);
}
