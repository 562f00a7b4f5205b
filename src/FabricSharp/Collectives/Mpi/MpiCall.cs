using static TorchSharp.torch;

namespace FabricSharp.Collectives.Mpi;

internal enum MpiCollective : byte
{
    AllReduce,
    Broadcast,
    AllGather,
    Reduce,
    Gather,
    Scatter,
    ReduceScatter,
    AllToAll,
    AllToAllSplits,
    Barrier,
    MonitoredBarrier,
    GradientChannel,
    NewGroup,
}

/// <summary>What a rank calls; must be the same on all ranks.</summary>
internal readonly record struct MpiCall(MpiCollective Kind, ReduceOp Operation = default, ScalarType Type = ScalarType.Byte, long Count = 0, int Root = 0)
{
    /// <summary>The call as an error shows it.</summary>
    public string Describe(IReadOnlyList<int> globalRanks) => Kind switch
    {
        MpiCollective.Barrier or MpiCollective.MonitoredBarrier => $"{Kind}",
        MpiCollective.Broadcast or MpiCollective.Scatter => $"{Kind} of {Count} × {Type} from {RankName.Of(Root, globalRanks)}",
        MpiCollective.Gather => $"Gather of {Count} × {Type} to {RankName.Of(Root, globalRanks)}",
        MpiCollective.Reduce => $"Reduce({Operation}) of {Count} × {Type} to {RankName.Of(Root, globalRanks)}",
        MpiCollective.AllReduce or MpiCollective.ReduceScatter => $"{Kind}({Operation}) of {Count} × {Type}",
        MpiCollective.AllToAll => $"AllToAll of {Count} × {Type} to each rank",
        MpiCollective.AllToAllSplits => $"AllToAll of {Type} with split sizes",
        MpiCollective.GradientChannel => $"the set-up of a gradient reducer (number {Count:x})",
        MpiCollective.NewGroup => "NewGroup",
        _ => $"{Kind} of {Count} × {Type}",
    };
}

/// <summary>What a rank sends to each other one before an operation: its call, and as many bytes of data as fit.</summary>
internal struct MpiHeader
{
    public const int Bytes = 64;

    public long Sequence;
    public long Count;
    public double Factor;
    public int Root;
    public int PayloadBytes;
    public MpiCollective Kind;
    public ReduceOp.Kind Operation;
    public ScalarType Type;

    public static MpiHeader Of(MpiCall call, long sequence, int payloadBytes) => new()
    {
        Sequence = sequence,
        Count = call.Count,
        Factor = call.Operation.Factor,
        Root = call.Root,
        PayloadBytes = payloadBytes,
        Kind = call.Kind,
        Operation = call.Operation.Operation,
        Type = call.Type,
    };

    public readonly MpiCall Call => new(Kind, Operation == ReduceOp.Kind.PreMulSum ? ReduceOp.PreMulSum(Factor) : ReduceOp.Of(Operation), Type, Count, Root);
}
