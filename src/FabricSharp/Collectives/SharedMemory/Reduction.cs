using System.Numerics;
using System.Runtime.Intrinsics;
using static FabricSharp.Collectives.ReduceOp;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// Element-wise combination of the ranks' arrays, always in rank order: <c>((x0 ∘ x1) ∘ x2) ∘ …</c>, so that results do not depend on
/// who computes them. 16-bit floating-point types are combined in float32 and rounded once.
/// </summary>
internal static unsafe class Reduction
{
    /// <summary>Refuses combinations that have no meaning.</summary>
    public static void Require(ReduceOp op, ScalarType type)
    {
        var known = type.IsFloatingPoint() || type.IsInteger();
        var fits = op.Operation switch
        {
            Kind.Average or Kind.PreMulSum => type.IsFloatingPoint(),
            Kind.BitwiseAnd or Kind.BitwiseOr or Kind.BitwiseXor => type.IsInteger(),
            _ => known,
        };
        if (!fits)
            throw new ArgumentException($"AllReduce({op}) is not defined for {type} tensors. " + (known
                ? "Sum, Product, Min and Max take every number type; Average and PreMulSum floating-point types; the bitwise ones integers."
                : "Convert to an integer or floating-point type first."));
    }

    /// <summary>The part of <paramref name="count"/> elements that <paramref name="rank"/> combines, cut at whole cache lines.</summary>
    public static (long Begin, long Length) Share(long count, ScalarType type, int rank, int size)
    {
        var perLine = 64 / type.SizeInBytes();
        var lines = (count + perLine - 1) / perLine;
        var begin = Math.Min(count, lines * rank / size * perLine);
        var end = rank == size - 1 ? count : Math.Min(count, lines * (rank + 1) / size * perLine);
        return (begin, end - begin);
    }

    /// <summary>Combines <paramref name="sources"/> and stores the result to each of <paramref name="destinations"/> (which may be the same arrays).</summary>
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
            case ScalarType.Float16: HalfReduction.Run<HalfReduction.Float16Format>(op, arrays); break;
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

    private static void Combine<T, TOperator>(in Arrays arrays)
        where T : unmanaged, INumber<T>
        where TOperator : ICombine<T>
    {
        var sources = (T**)arrays.Sources;
        var destinations = (T**)arrays.Destinations;
        long i = 0;
        for (; i <= arrays.Count - Vector512<T>.Count; i += Vector512<T>.Count)
        {
            var result = Vector512.Load(sources[0] + i);
            for (var s = 1; s < arrays.SourceCount; s++)
                result = TOperator.Invoke(result, Vector512.Load(sources[s] + i));
            for (var d = 0; d < arrays.DestinationCount; d++)
                result.Store(destinations[d] + i);
        }

        for (; i < arrays.Count; i++)
        {
            var result = sources[0][i];
            for (var s = 1; s < arrays.SourceCount; s++)
                result = TOperator.Invoke(result, sources[s][i]);
            for (var d = 0; d < arrays.DestinationCount; d++)
                destinations[d][i] = result;
        }
    }

    /// <summary><c>(x0·factor + x1·factor + …) / divisor</c>, each product rounded before it is added, as PyTorch averages gradients.</summary>
    private static void Scaled<T>(in Arrays arrays, T factor, T divisor)
        where T : unmanaged, IFloatingPoint<T>
    {
        var sources = (T**)arrays.Sources;
        var destinations = (T**)arrays.Destinations;
        if (arrays.SourceCount == 2 && arrays.DestinationCount == 2 && divisor == T.One)
        {
            ScaledPair(sources[0], sources[1], destinations[0], destinations[1], arrays.Count, factor);
            return;
        }

        var factors = Vector512.Create(factor);
        var divisors = Vector512.Create(divisor);
        long i = 0;
        for (; i <= arrays.Count - Vector512<T>.Count; i += Vector512<T>.Count)
        {
            var result = Vector512.Load(sources[0] + i) * factors;
            for (var s = 1; s < arrays.SourceCount; s++)
                result += Vector512.Load(sources[s] + i) * factors;
            result /= divisors;
            for (var d = 0; d < arrays.DestinationCount; d++)
                result.Store(destinations[d] + i);
        }

        for (; i < arrays.Count; i++)
        {
            var result = sources[0][i] * factor;
            for (var s = 1; s < arrays.SourceCount; s++)
                result += sources[s][i] * factor;
            result /= divisor;
            for (var d = 0; d < arrays.DestinationCount; d++)
                destinations[d][i] = result;
        }
    }

    /// <summary>The case of two ranks, without the inner loops.</summary>
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
