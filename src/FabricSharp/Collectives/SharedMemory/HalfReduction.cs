using System.Runtime.CompilerServices;
using static FabricSharp.Collectives.ReduceOp;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>Combination of float16 and bfloat16 arrays: widened to float32, combined, rounded once to nearest even.</summary>
internal static unsafe class HalfReduction
{
    internal interface IFormat
    {
        static abstract float Widen(ushort bits);

        static abstract ushort Narrow(float value);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run<TFormat>(ReduceOp op, in Reduction.Arrays arrays)
        where TFormat : IFormat
    {
        var factor = op.Operation == Kind.PreMulSum ? (float)op.Factor : 1f;
        var divisor = op.Operation == Kind.Average ? arrays.SourceCount : 1f;
        var sources = (ushort**)arrays.Sources;
        var destinations = (ushort**)arrays.Destinations;
        for (long i = 0; i < arrays.Count; i++)
        {
            var result = TFormat.Widen(sources[0][i]) * factor;
            for (var s = 1; s < arrays.SourceCount; s++)
                result = Combine(op.Operation, result, TFormat.Widen(sources[s][i]) * factor);
            var bits = TFormat.Narrow(result / divisor);
            for (var d = 0; d < arrays.DestinationCount; d++)
                destinations[d][i] = bits;
        }
    }

    private static float Combine(Kind kind, float a, float b) => kind switch
    {
        Kind.Product => a * b,
        Kind.Min => MathF.Min(a, b),
        Kind.Max => MathF.Max(a, b),
        _ => a + b,
    };

    internal readonly struct Float16Format : IFormat
    {
        public static float Widen(ushort bits) => (float)BitConverter.UInt16BitsToHalf(bits);

        public static ushort Narrow(float value) => BitConverter.HalfToUInt16Bits((Half)value);
    }

    internal readonly struct BFloat16Format : IFormat
    {
        public static float Widen(ushort bits) => BitConverter.UInt32BitsToSingle((uint)bits << 16);

        public static ushort Narrow(float value)
        {
            var bits = BitConverter.SingleToUInt32Bits(value);
            if (float.IsNaN(value))
                return 0x7fc0;
            return (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
        }
    }
}
