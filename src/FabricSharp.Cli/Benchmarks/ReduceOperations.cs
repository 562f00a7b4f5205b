using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Cli.Benchmarks;

/// <summary>A reduction: what the ranks call, what each of them puts in, and how the result is computed without them.</summary>
/// <param name="Op">The operation.</param>
/// <param name="ValueAt">The elements of a rank, by index (int64), rank and number of ranks: small whole numbers, exact in every type.</param>
/// <param name="Combine">Combines the elements of two ranks.</param>
internal sealed record ReduceOperation(ReduceOp Op, Func<Tensor, int, int, Tensor> ValueAt, Func<Tensor, Tensor, Tensor> Combine);

/// <summary>The reductions by name.</summary>
internal static class ReduceOperations
{
    private static readonly Dictionary<string, ReduceOperation> Known = new()
    {
        ["sum"] = new(ReduceOp.Sum, SmallNumbers, (a, b) => a + b),
        ["avg"] = new(ReduceOp.Average, SmallNumbers, (a, b) => a + b),
        ["prod"] = new(ReduceOp.Product, (index, rank, ranks) => where((index % ranks).eq(rank), index % 3 + 2, ones_like(index)), (a, b) => a * b),
        ["min"] = new(ReduceOp.Min, (index, rank, _) => (index * 3 + rank * 5) % 11, minimum),
        ["max"] = new(ReduceOp.Max, (index, rank, _) => (index * 3 + rank * 5) % 11, maximum),
        ["band"] = new(ReduceOp.BitwiseAnd, Bits, bitwise_and),
        ["bor"] = new(ReduceOp.BitwiseOr, Bits, bitwise_or),
        ["bxor"] = new(ReduceOp.BitwiseXor, Bits, bitwise_xor),
    };

    public static IReadOnlyCollection<string> Names => Known.Keys;

    public static ReduceOperation Of(string name) => Known[name];

    private static Tensor SmallNumbers(Tensor index, int rank, int ranks) => (index + rank) % 5;

    private static Tensor Bits(Tensor index, int rank, int ranks) => (index + rank * 3) % 8;
}
