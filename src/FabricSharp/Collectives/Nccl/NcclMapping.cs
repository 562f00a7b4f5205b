using FabricSharp.Interop.Nccl;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Nccl;

/// <summary>What of ours is what of NCCL's.</summary>
internal static class NcclMapping
{
    /// <summary>The type in which elements are combined; null where NCCL has none.</summary>
    public static NcclType? TypeOf(ScalarType type) => type switch
    {
        ScalarType.Byte or ScalarType.Bool => NcclType.UInt8,
        ScalarType.Int8 => NcclType.Int8,
        ScalarType.Int32 => NcclType.Int32,
        ScalarType.Int64 => NcclType.Int64,
        ScalarType.Float16 => NcclType.Float16,
        ScalarType.BFloat16 => NcclType.BFloat16,
        ScalarType.Float32 => NcclType.Float32,
        ScalarType.Float64 => NcclType.Float64,
        _ => null,
    };

    /// <summary>The reduction; null where NCCL has none, and for the premultiplied sum, which is made for each communicator.</summary>
    public static NcclReduction? ReductionOf(ReduceOp op, ScalarType type) => (type == ScalarType.Bool ? op.ForBooleans() : op).Operation switch
    {
        ReduceOp.Kind.Sum => NcclReduction.Sum,
        ReduceOp.Kind.Average => NcclReduction.Average,
        ReduceOp.Kind.Product => NcclReduction.Product,
        ReduceOp.Kind.Min => NcclReduction.Min,
        ReduceOp.Kind.Max => NcclReduction.Max,
        ReduceOp.Kind.BitwiseOr when type == ScalarType.Bool => NcclReduction.Max, // bytes of 0 or 1
        ReduceOp.Kind.BitwiseAnd when type == ScalarType.Bool => NcclReduction.Min,
        _ => null,
    };

    /// <summary>Refuses what NCCL cannot combine, before anything is sent.</summary>
    public static void Require(ReduceOp op, ScalarType type, string me, string operation)
    {
        if (TypeOf(type) is null)
            throw new ArgumentException($"{me}: {operation}({op}): NCCL has no arithmetic for {type} tensors. Convert them, for example to Int32.");
        if (ReductionOf(op, type) is null && op.Operation != ReduceOp.Kind.PreMulSum)
            throw new ArgumentException(
                $"{me}: {operation}({op}): NCCL combines by sum, product, minimum, maximum and average only; it has no bitwise operations{(type == ScalarType.Bool ? " (or, and of booleans work: they are maximum and minimum)" : "")}. " +
                "Gather the tensors with AllGather and combine them on each rank, or use the shm back end with CPU tensors.");
    }

    /// <summary>A number as one element of the type.</summary>
    public static byte[] Element(double value, ScalarType type) => type switch
    {
        ScalarType.Float64 => BitConverter.GetBytes(value),
        ScalarType.Float32 => BitConverter.GetBytes((float)value),
        ScalarType.Float16 => BitConverter.GetBytes((Half)value),
        ScalarType.BFloat16 => BitConverter.GetBytes(BFloat16Bits((float)value)),
        _ => throw new ArgumentException($"{type} is no floating-point type.", nameof(type)),
    };

    /// <summary>The upper half of a float32, rounded to nearest, ties to even.</summary>
    private static ushort BFloat16Bits(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value) ? (ushort)0x7fc0 : (ushort)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}
