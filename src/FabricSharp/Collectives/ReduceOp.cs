namespace FabricSharp.Collectives;

/// <summary>How a reduction combines the ranks' elements. Combination is in rank order, so that every run gives the same bits.</summary>
public readonly record struct ReduceOp
{
    internal enum Kind : byte
    {
        Sum,
        Average,
        Product,
        Min,
        Max,
        BitwiseAnd,
        BitwiseOr,
        BitwiseXor,
        PreMulSum,
    }

    private ReduceOp(Kind kind, double factor = 1)
    {
        Operation = kind;
        Factor = factor;
    }

    internal Kind Operation { get; }

    internal double Factor { get; }

    /// <summary>The sum over all ranks.</summary>
    public static ReduceOp Sum => new(Kind.Sum);

    /// <summary>The sum divided by the number of ranks; floating-point types only.</summary>
    public static ReduceOp Average => new(Kind.Average);

    /// <summary>The product over all ranks.</summary>
    public static ReduceOp Product => new(Kind.Product);

    /// <summary>The smallest value; NaN on any rank gives NaN.</summary>
    public static ReduceOp Min => new(Kind.Min);

    /// <summary>The largest value; NaN on any rank gives NaN.</summary>
    public static ReduceOp Max => new(Kind.Max);

    /// <summary>Bitwise and; integers and booleans only.</summary>
    public static ReduceOp BitwiseAnd => new(Kind.BitwiseAnd);

    /// <summary>Bitwise or; integers and booleans only.</summary>
    public static ReduceOp BitwiseOr => new(Kind.BitwiseOr);

    /// <summary>Bitwise exclusive or; integers and booleans only.</summary>
    public static ReduceOp BitwiseXor => new(Kind.BitwiseXor);

    /// <summary>Each rank's elements are multiplied by <paramref name="factor"/>, then summed; floating-point types only.</summary>
    /// <param name="factor">The same on every rank.</param>
    public static ReduceOp PreMulSum(double factor) => new(Kind.PreMulSum, factor);

    internal static ReduceOp Of(Kind kind) => new(kind);

    /// <summary>The bitwise operation that is this one for booleans, which are bytes of 0 or 1.</summary>
    internal ReduceOp ForBooleans() => Operation switch
    {
        Kind.Sum or Kind.Max => BitwiseOr,
        Kind.Product or Kind.Min => BitwiseAnd,
        _ => this,
    };

    /// <inheritdoc/>
    public override string ToString() => Operation == Kind.PreMulSum ? $"PreMulSum({Factor:R})" : Operation.ToString();
}
