using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using static FabricSharp.Collectives.ReduceOp;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// Element-wise combination of the ranks' arrays, always in rank order: <c>((x0 ∘ x1) ∘ x2) ∘ …</c>, so that results do not depend on
/// who computes them. 16-bit floating-point types are combined in float32 and rounded once.
/// The loops are compiled with all optimisations at once: in tiers they would stay twenty times slower for the first seconds of training.
/// </summary>
internal static unsafe class Reduction
{
    private const long BlockElements = 1024;

    /// <summary>The part of <paramref name="count"/> elements that <paramref name="rank"/> combines, cut at whole cache lines.</summary>
    public static (long Begin, long Length) Share(long count, ScalarType type, int rank, int size)
    {
        var perLine = 64 / type.SizeInBytes();
        var lines = (count + perLine - 1) / perLine;
        var begin = Math.Min(count, lines * rank / size * perLine);
        var end = rank == size - 1 ? count : Math.Min(count, lines * (rank + 1) / size * perLine);
        return (begin, end - begin);
    }

    /// <summary>
    /// Combines <paramref name="sources"/> and stores the result to each of <paramref name="destinations"/>. These may be the same arrays, but the
    /// first, which takes intermediate results, must not be one of the sources from the third on.
    /// </summary>
    public static void Run(ReduceOp op, ScalarType type, byte** sources, int sourceCount, byte** destinations, int destinationCount, long count)
    {
        if (count == 0)
            return;
        var arrays = new Arrays(sources, sourceCount, destinations, destinationCount, count);
        switch (type)
        {
            case ScalarType.Float32: Float<float>(op, arrays); break;
            case ScalarType.Float64: Float<double>(op, arrays); break;
            case ScalarType.Int64: Integer<long>(op, arrays); break;
            case ScalarType.Int32: Integer<int>(op, arrays); break;
            case ScalarType.Int16: Integer<short>(op, arrays); break;
            case ScalarType.Int8: Integer<sbyte>(op, arrays); break;
            case ScalarType.Byte: Integer<byte>(op, arrays); break;
            case ScalarType.Float16: HalfReduction.RunFloat16(op, arrays); break;
            case ScalarType.Bool: Integer<byte>(op.ForBooleans(), arrays); break;
            case ScalarType.BFloat16: HalfReduction.Run<HalfReduction.BFloat16Format>(op, arrays); break;
            default: throw new ArgumentException($"{type} tensors cannot be reduced.", nameof(type));
        }
    }

    private static void Float<T>(ReduceOp op, in Arrays arrays)
        where T : unmanaged, IFloatingPoint<T>
    {
        switch (op.Operation)
        {
            case Kind.Sum: Combine<T, Add<T>>(arrays); break;
            case Kind.Average: Scaled(arrays, T.One, T.CreateChecked(arrays.SourceCount)); break;
            case Kind.PreMulSum: Scaled(arrays, T.CreateChecked(op.Factor), T.One); break;
            case Kind.Product: Combine<T, Multiply<T>>(arrays); break;
            case Kind.Min: Combine<T, Smaller<T>>(arrays); break;
            case Kind.Max: Combine<T, Larger<T>>(arrays); break;
        }
    }

    private static void Integer<T>(ReduceOp op, in Arrays arrays)
        where T : unmanaged, IBinaryInteger<T>
    {
        switch (op.Operation)
        {
            case Kind.Sum: Combine<T, Add<T>>(arrays); break;
            case Kind.Product: Combine<T, Multiply<T>>(arrays); break;
            case Kind.Min: Combine<T, Smaller<T>>(arrays); break;
            case Kind.Max: Combine<T, Larger<T>>(arrays); break;
            case Kind.BitwiseAnd: Combine<T, And<T>>(arrays); break;
            case Kind.BitwiseOr: Combine<T, Or<T>>(arrays); break;
            case Kind.BitwiseXor: Combine<T, Xor<T>>(arrays); break;
        }
    }

    /// <summary>Block by block, so that what several steps touch stays in the first-level cache. Sources may be destinations: a block is written when it has been read.</summary>
    private static void Combine<T, TOperator>(in Arrays arrays)
        where T : unmanaged, INumber<T>
        where TOperator : ICombine<T>
    {
        var sources = (T**)arrays.Sources;
        var result = (T*)arrays.Destinations[0];
        if (arrays is { SourceCount: 2, DestinationCount: <= 2 })
        {
            Pair<T, TOperator>(sources[0], sources[1], result, arrays.DestinationCount == 2 ? (T*)arrays.Destinations[1] : result, arrays.Count);
            return;
        }

        for (long begin = 0; begin < arrays.Count; begin += BlockElements)
        {
            var length = Math.Min(BlockElements, arrays.Count - begin);
            if (arrays.SourceCount == 1)
                CopyBlock(sources[0] + begin, result + begin, length);
            else
                Pair<T, TOperator>(sources[0] + begin, sources[1] + begin, result + begin, result + begin, length);
            for (var s = 2; s < arrays.SourceCount; s++)
                Pair<T, TOperator>(result + begin, sources[s] + begin, result + begin, result + begin, length);
            Spread<T>(arrays, begin, length);
        }
    }

    /// <summary><c>(x0·factor + x1·factor + …) / divisor</c>, each product rounded before it is added, as PyTorch averages gradients.</summary>
    private static void Scaled<T>(in Arrays arrays, T factor, T divisor)
        where T : unmanaged, IFloatingPoint<T>
    {
        var sources = (T**)arrays.Sources;
        var result = (T*)arrays.Destinations[0];
        if (arrays is { SourceCount: 2, DestinationCount: <= 2 } && divisor == T.One)
        {
            ScaledPair(sources[0], sources[1], result, arrays.DestinationCount == 2 ? (T*)arrays.Destinations[1] : result, arrays.Count, factor);
            return;
        }

        for (long begin = 0; begin < arrays.Count; begin += BlockElements)
        {
            var length = Math.Min(BlockElements, arrays.Count - begin);
            if (arrays.SourceCount == 1)
                Multiplied(sources[0] + begin, result + begin, length, factor);
            else
                ScaledPair(sources[0] + begin, sources[1] + begin, result + begin, result + begin, length, factor);
            for (var s = 2; s < arrays.SourceCount; s++)
                AddScaled(sources[s] + begin, result + begin, length, factor);
            if (divisor != T.One)
                Divided(result + begin, length, divisor);
            Spread<T>(arrays, begin, length);
        }
    }

    /// <summary>Copies the first destination's block to the others.</summary>
    private static void Spread<T>(in Arrays arrays, long begin, long length)
        where T : unmanaged
    {
        for (var d = 1; d < arrays.DestinationCount; d++)
            CopyBlock((T*)arrays.Destinations[0] + begin, (T*)arrays.Destinations[d] + begin, length);
    }

    private static void CopyBlock<T>(T* from, T* to, long count)
        where T : unmanaged
    {
        if (from != to)
            CacheCopy.Copy((byte*)to, (byte*)from, count * sizeof(T));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Pair<T, TOperator>(T* a, T* b, T* toA, T* toB, long count)
        where T : unmanaged, INumber<T>
        where TOperator : ICombine<T>
    {
        long i = 0;
        for (; i <= count - Vector512<T>.Count; i += Vector512<T>.Count)
        {
            var result = TOperator.Invoke(Vector512.Load(a + i), Vector512.Load(b + i));
            result.Store(toA + i);
            result.Store(toB + i);
        }

        for (; i < count; i++)
            toA[i] = toB[i] = TOperator.Invoke(a[i], b[i]);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ScaledPair<T>(T* a, T* b, T* toA, T* toB, long count, T factor)
        where T : unmanaged, IFloatingPoint<T>
    {
        var factors = Vector512.Create(factor);
        long i = 0;
        for (; i <= count - Vector512<T>.Count; i += Vector512<T>.Count)
        {
            var result = Vector512.Load(a + i) * factors + Vector512.Load(b + i) * factors;
            result.Store(toA + i);
            result.Store(toB + i);
        }

        for (; i < count; i++)
            toA[i] = toB[i] = a[i] * factor + b[i] * factor;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddScaled<T>(T* from, T* to, long count, T factor)
        where T : unmanaged, IFloatingPoint<T>
    {
        var factors = Vector512.Create(factor);
        long i = 0;
        for (; i <= count - Vector512<T>.Count; i += Vector512<T>.Count)
            (Vector512.Load(to + i) + Vector512.Load(from + i) * factors).Store(to + i);
        for (; i < count; i++)
            to[i] += from[i] * factor;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiplied<T>(T* from, T* to, long count, T factor)
        where T : unmanaged, IFloatingPoint<T>
    {
        var factors = Vector512.Create(factor);
        long i = 0;
        for (; i <= count - Vector512<T>.Count; i += Vector512<T>.Count)
            (Vector512.Load(from + i) * factors).Store(to + i);
        for (; i < count; i++)
            to[i] = from[i] * factor;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Divided<T>(T* values, long count, T divisor)
        where T : unmanaged, IFloatingPoint<T>
    {
        var divisors = Vector512.Create(divisor);
        long i = 0;
        for (; i <= count - Vector512<T>.Count; i += Vector512<T>.Count)
            (Vector512.Load(values + i) / divisors).Store(values + i);
        for (; i < count; i++)
            values[i] /= divisor;
    }

    /// <summary>Where the elements are.</summary>
    internal readonly struct Arrays(byte** sources, int sourceCount, byte** destinations, int destinationCount, long count)
    {
        public readonly byte** Sources = sources;
        public readonly int SourceCount = sourceCount;
        public readonly byte** Destinations = destinations;
        public readonly int DestinationCount = destinationCount;
        public readonly long Count = count;
    }

    internal interface ICombine<T>
    {
        static abstract Vector512<T> Invoke(Vector512<T> a, Vector512<T> b);

        static abstract T Invoke(T a, T b);
    }

    internal readonly struct Add<T> : ICombine<T>
        where T : INumber<T>
    {
        public static Vector512<T> Invoke(Vector512<T> a, Vector512<T> b) => a + b;

        public static T Invoke(T a, T b) => a + b;
    }

    internal readonly struct Multiply<T> : ICombine<T>
        where T : INumber<T>
    {
        public static Vector512<T> Invoke(Vector512<T> a, Vector512<T> b) => a * b;

        public static T Invoke(T a, T b) => a * b;
    }

    internal readonly struct Smaller<T> : ICombine<T>
        where T : INumber<T>
    {
        public static Vector512<T> Invoke(Vector512<T> a, Vector512<T> b) => Vector512.Min(a, b);

        public static T Invoke(T a, T b) => T.Min(a, b);
    }

    internal readonly struct Larger<T> : ICombine<T>
        where T : INumber<T>
    {
        public static Vector512<T> Invoke(Vector512<T> a, Vector512<T> b) => Vector512.Max(a, b);

        public static T Invoke(T a, T b) => T.Max(a, b);
    }

    internal readonly struct And<T> : ICombine<T>
        where T : IBinaryInteger<T>
    {
        public static Vector512<T> Invoke(Vector512<T> a, Vector512<T> b) => a & b;

        public static T Invoke(T a, T b) => a & b;
    }

    internal readonly struct Or<T> : ICombine<T>
        where T : IBinaryInteger<T>
    {
        public static Vector512<T> Invoke(Vector512<T> a, Vector512<T> b) => a | b;

        public static T Invoke(T a, T b) => a | b;
    }

    internal readonly struct Xor<T> : ICombine<T>
        where T : IBinaryInteger<T>
    {
        public static Vector512<T> Invoke(Vector512<T> a, Vector512<T> b) => a ^ b;

        public static T Invoke(T a, T b) => a ^ b;
    }
}
