using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.Cases;

/// <summary>Reduction the slow way: in double or long, then brought to the element type.</summary>
internal static class ReductionReference
{
    public static readonly ScalarType[] Types =
    [
        ScalarType.Float32, ScalarType.Float64, ScalarType.Float16, ScalarType.BFloat16,
        ScalarType.Int64, ScalarType.Int32, ScalarType.Int16, ScalarType.Int8, ScalarType.Byte, ScalarType.Bool,
    ];

    public static IEnumerable<ReduceOp> OperationsOf(ScalarType type) => type.IsFloatingPoint()
        ? [ReduceOp.Sum, ReduceOp.Average, ReduceOp.Product, ReduceOp.Min, ReduceOp.Max, ReduceOp.PreMulSum(0.5)]
        : [ReduceOp.Sum, ReduceOp.Product, ReduceOp.Min, ReduceOp.Max, ReduceOp.BitwiseAnd, ReduceOp.BitwiseOr, ReduceOp.BitwiseXor];

    /// <summary>Those that a back end offers: NCCL has neither bitwise reductions nor arithmetic of 16-bit integers.</summary>
    public static IEnumerable<ReduceOp> OperationsOf(ScalarType type, string backend) => backend != "nccl" ? OperationsOf(type)
        : type == ScalarType.Int16 ? []
        : OperationsOf(type).Where(op => op.Operation is not (ReduceOp.Kind.BitwiseAnd or ReduceOp.Kind.BitwiseOr or ReduceOp.Kind.BitwiseXor) || (type == ScalarType.Bool && op != ReduceOp.BitwiseXor));

    /// <summary>Small eighths for floating-point types, so that sums are exact in each of them; integers of the whole range else.</summary>
    public static Tensor Input(ScalarType type, int count, int rank, int seed = 0)
    {
        var random = new Random(1000 * rank + 7919 * seed + 1);
        if (type.IsFloatingPoint())
            return tensor(Make(count, () => random.Next(-16, 17) / 8.0)).to(type);
        if (type == ScalarType.Bool)
            return tensor(Make(count, () => random.Next(2) == 1));
        var bits = (int)type.SizeInBytes() * 8;
        return tensor(Make(count, () => type == ScalarType.Byte ? random.Next(0, 256) : random.NextInt64() >> (64 - bits))).to(type);
    }

    public static Tensor Result(ReduceOp op, Tensor[] inputs)
    {
        var type = inputs[0].dtype;
        if (type.IsFloatingPoint())
        {
            var all = inputs.Select(input => input.to(ScalarType.Float64).data<double>().ToArray()).ToArray();
            return tensor(Make(all[0].Length, i => Reduce(op, all, i))).to(type);
        }

        var whole = inputs.Select(input => input.to(ScalarType.Int64).data<long>().ToArray()).ToArray();
        return tensor(Make(whole[0].Length, i => Wrap(type, ReduceWhole(op, whole, i)))).to(type);
    }

    /// <summary>The elements' bytes.</summary>
    public static byte[] Bits(Tensor value) => value.contiguous().bytes.ToArray();

    private static double Reduce(ReduceOp op, double[][] all, int i)
    {
        var result = all[0][i] * op.Factor;
        for (var rank = 1; rank < all.Length; rank++)
            result = op.Operation switch
            {
                ReduceOp.Kind.Product => result * all[rank][i],
                ReduceOp.Kind.Min => Math.Min(result, all[rank][i]),
                ReduceOp.Kind.Max => Math.Max(result, all[rank][i]),
                _ => result + all[rank][i] * op.Factor,
            };
        return op.Operation == ReduceOp.Kind.Average ? result / all.Length : result;
    }

    private static long ReduceWhole(ReduceOp op, long[][] all, int i)
    {
        var result = all[0][i];
        for (var rank = 1; rank < all.Length; rank++)
            result = op.Operation switch
            {
                ReduceOp.Kind.Product => unchecked(result * all[rank][i]),
                ReduceOp.Kind.Min => Math.Min(result, all[rank][i]),
                ReduceOp.Kind.Max => Math.Max(result, all[rank][i]),
                ReduceOp.Kind.BitwiseAnd => result & all[rank][i],
                ReduceOp.Kind.BitwiseOr => result | all[rank][i],
                ReduceOp.Kind.BitwiseXor => result ^ all[rank][i],
                _ => unchecked(result + all[rank][i]),
            };
        return result;
    }

    private static long Wrap(ScalarType type, long value) => unchecked(type switch
    {
        ScalarType.Byte => (byte)value,
        ScalarType.Int8 => (sbyte)value,
        ScalarType.Int16 => (short)value,
        ScalarType.Bool => value != 0 ? 1 : 0,
        ScalarType.Int32 => (int)value,
        _ => value,
    });

    private static T[] Make<T>(int count, Func<T> next) => Make(count, _ => next());

    private static T[] Make<T>(int count, Func<int, T> at)
    {
        var array = new T[count];
        for (var i = 0; i < count; i++)
            array[i] = at(i);
        return array;
    }
}
