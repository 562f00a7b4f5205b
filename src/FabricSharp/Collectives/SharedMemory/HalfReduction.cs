using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using FabricSharp.Interop.LibTorch;
using static FabricSharp.Collectives.ReduceOp;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// Combination of float16 and bfloat16 arrays: widened to float32, combined in rank order, rounded once to nearest even. Numbers are processed in
/// pairs, as 32-bit words: the one in the upper half of the word by itself, the one in the lower half shifted up, so that no vector is reshuffled.
/// </summary>
internal static unsafe class HalfReduction
{
    private const uint UpperHalf = 0xffff_0000;
    private const int BlockElements = 512, MaxBlocks = 64; // a block of each of a few ranks fits the first-level cache

    /// <summary>A 16-bit format. Vector forms have the number in the upper half of each word.</summary>
    internal interface IFormat
    {
        static abstract float Widen(ushort bits);

        static abstract ushort Narrow(float value);

        /// <param name="words">Lower halves zero.</param>
        static abstract Vector512<float> Widen(Vector512<uint> words);

        /// <returns>Lower halves undefined.</returns>
        static abstract Vector512<uint> Narrow(Vector512<float> values);
    }

    /// <summary>
    /// With the processor's own conversions, where they can be reached: several times faster than <see cref="Run{TFormat}(ReduceOp, in Reduction.Arrays)"/>,
    /// for a float16 needs a dozen instructions where a bfloat16 needs one.
    /// </summary>
    public static void RunFloat16(ReduceOp op, in Reduction.Arrays arrays)
    {
        if (!HalfConversion.IsSupported || arrays.SourceCount > MaxBlocks)
        {
            Run<Float16Format>(op, arrays);
            return;
        }

        var memory = stackalloc float[arrays.SourceCount * BlockElements];
        var blocks = stackalloc byte*[arrays.SourceCount];
        for (var s = 0; s < arrays.SourceCount; s++)
            blocks[s] = (byte*)(memory + s * BlockElements);
        for (long begin = 0; begin < arrays.Count; begin += BlockElements)
        {
            var length = (int)Math.Min(BlockElements, arrays.Count - begin);
            for (var s = 0; s < arrays.SourceCount; s++)
                HalfConversion.Widen((ushort*)arrays.Sources[s] + begin, (float*)blocks[s], length);
            Reduction.Run(op, TorchSharp.torch.ScalarType.Float32, blocks, arrays.SourceCount, blocks, 1, length);
            var result = (ushort*)arrays.Destinations[0] + begin;
            HalfConversion.Narrow(memory, result, length);
            for (var d = 1; d < arrays.DestinationCount; d++)
                CacheCopy.Copy((byte*)((ushort*)arrays.Destinations[d] + begin), (byte*)result, length * sizeof(ushort));
        }
    }

    public static void Run<TFormat>(ReduceOp op, in Reduction.Arrays arrays)
        where TFormat : IFormat
    {
        switch (op.Operation)
        {
            case Kind.Product: Run<TFormat, Reduction.Multiply<float>>(arrays, 1, 1); break;
            case Kind.Min: Run<TFormat, Reduction.Smaller<float>>(arrays, 1, 1); break;
            case Kind.Max: Run<TFormat, Reduction.Larger<float>>(arrays, 1, 1); break;
            case Kind.Average: Run<TFormat, Reduction.Add<float>>(arrays, 1, arrays.SourceCount); break;
            default: Run<TFormat, Reduction.Add<float>>(arrays, op.Operation == Kind.PreMulSum ? (float)op.Factor : 1, 1); break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Run<TFormat, TOperator>(in Reduction.Arrays arrays, float factor, float divisor)
        where TFormat : IFormat
        where TOperator : Reduction.ICombine<float>
    {
        ushort** sources = (ushort**)arrays.Sources, destinations = (ushort**)arrays.Destinations;
        var (sourceCount, destinationCount) = (arrays.SourceCount, arrays.DestinationCount);
        var (factors, divisors) = (Vector512.Create(factor), Vector512.Create(divisor));
        bool isScaled = factor != 1, isDivided = divisor != 1;
        long i = 0;
        for (; i <= arrays.Count - Vector512<ushort>.Count; i += Vector512<ushort>.Count)
        {
            var words = Vector512.Load((uint*)(sources[0] + i));
            var (lower, upper) = (TFormat.Widen(words << 16), TFormat.Widen(words & Vector512.Create(UpperHalf)));
            if (isScaled)
                (lower, upper) = (lower * factors, upper * factors);
            for (var s = 1; s < sourceCount; s++)
            {
                words = Vector512.Load((uint*)(sources[s] + i));
                var (nextLower, nextUpper) = (TFormat.Widen(words << 16), TFormat.Widen(words & Vector512.Create(UpperHalf)));
                if (isScaled)
                    (nextLower, nextUpper) = (nextLower * factors, nextUpper * factors);
                (lower, upper) = (TOperator.Invoke(lower, nextLower), TOperator.Invoke(upper, nextUpper));
            }

            if (isDivided)
                (lower, upper) = (lower / divisors, upper / divisors);
            var result = (TFormat.Narrow(lower) >>> 16) | (TFormat.Narrow(upper) & Vector512.Create(UpperHalf));
            for (var d = 0; d < destinationCount; d++)
                result.Store((uint*)(destinations[d] + i));
        }

        for (; i < arrays.Count; i++)
        {
            var result = TFormat.Widen(sources[0][i]) * factor;
            for (var s = 1; s < sourceCount; s++)
                result = TOperator.Invoke(result, TFormat.Widen(sources[s][i]) * factor);
            var bits = TFormat.Narrow(result / divisor);
            for (var d = 0; d < destinationCount; d++)
                destinations[d][i] = bits;
        }
    }

    /// <summary>1 sign, 5 exponent, 10 mantissa bits.</summary>
    internal readonly struct Float16Format : IFormat
    {
        private const uint Sign = 0x8000_0000, MantissaAndExponent = 0x0fff_e000;
        private const uint SmallestNormal = 1 << 23, Special = 31 << 23; // exponent fields of a float16 in the place of a float32's
        private const uint Rebias = 112 << 23, SmallestNormalAsFloat = 113 << 23, Infinity = 143 << 23, Half = 126 << 23;

        public static float Widen(ushort bits) => (float)BitConverter.UInt16BitsToHalf(bits);

        public static ushort Narrow(float value) => BitConverter.HalfToUInt16Bits((System.Half)value);

        /// <summary>
        /// The bits are moved to where a float32 has them and the exponent's bias is changed. Numbers below the smallest normal are read as that
        /// plus themselves, which is a normal float32, and it is subtracted: no denormal float32 arises, which may be slow or flushed to zero.
        /// </summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Widen(Vector512<uint> words)
        {
            var magnitude = (words >>> 3) & Vector512.Create(MantissaAndExponent);
            var normal = magnitude + Vector512.Create(Rebias);
            var small = (magnitude + Vector512.Create(SmallestNormalAsFloat)).AsSingle() - Vector512.Create(SmallestNormalAsFloat).AsSingle();
            var value = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(SmallestNormal)), small.AsUInt32(), normal);
            value += Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(Special)) & Vector512.Create(Rebias);
            return (value | (words & Vector512.Create(Sign))).AsSingle();
        }

        /// <summary>
        /// Rounding adds just under half of the last place kept, and one more where that place is odd. What is below the smallest normal is added to
        /// 0.5, whose last place is that of the smallest float16s, so that the addition rounds. Beyond the largest it is infinity by a minimum.
        /// </summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Narrow(Vector512<float> values)
        {
            var bits = values.AsUInt32();
            var sign = bits & Vector512.Create(Sign);
            var magnitude = bits ^ sign;
            var clamped = Vector512.Min(magnitude, Vector512.Create(Infinity));
            var odd = (clamped >>> 13) & Vector512<uint>.One;
            var normal = (clamped + odd + Vector512.Create(unchecked(0xfffu - Rebias))) << 3;
            var small = ((magnitude.AsSingle() + Vector512.Create(Half).AsSingle()).AsUInt32() - Vector512.Create(Half)) << 16;
            var result = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(SmallestNormalAsFloat)), small, normal);
            return Vector512.ConditionalSelect(Vector512.Equals(values, values).AsUInt32(), result | sign, Vector512.Create(0x7e00_0000u));
        }
    }

    /// <summary>The upper half of a float32.</summary>
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

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Widen(Vector512<uint> words) => words.AsSingle();

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<uint> Narrow(Vector512<float> values)
        {
            var bits = values.AsUInt32();
            var rounded = bits + Vector512.Create(0x7fffu) + ((bits >>> 16) & Vector512<uint>.One);
            return Vector512.ConditionalSelect(Vector512.Equals(values, values).AsUInt32(), rounded, Vector512.Create(0x7fc0_0000u));
        }
    }
}
