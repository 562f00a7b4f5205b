using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Testing;

/// <summary>One call on one rank's process group.</summary>
/// <param name="Number">How many calls this rank made before, groups that were made of its group included.</param>
/// <param name="Operation">What was called.</param>
public sealed record GroupCall(int Number, GroupOperation Operation)
{
    /// <summary>The element type of the tensor that is sent (received, for a receiver); null where there is none.</summary>
    public ScalarType? Type { get; init; }

    /// <summary>The number of its elements; for <see cref="GroupOperation.GradientExchange"/> the bytes of a rank's message.</summary>
    public long Elements { get; init; }

    /// <summary>The root, the destination or the source; null where there is none.</summary>
    public int? Peer { get; init; }

    /// <summary>How elements are combined; null where they are not.</summary>
    public ReduceOp? Reduction { get; init; }

    /// <summary>The ranks of the group that the call was made on, as <see cref="ProcessGroup.GlobalRanks"/>.</summary>
    public IReadOnlyList<int> Ranks { get; init; } = [];
}
