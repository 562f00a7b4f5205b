using System.Numerics;
using System.Runtime.InteropServices;
using CsCheck;
using FabricSharp.Collectives;
using FabricSharp.Collectives.SharedMemory;
using FabricSharp.Tests.Collectives.Cases;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.SharedMemory;

/// <summary>The vectorised kernels against loops over single elements, bit for bit (any NaN equals any other).</summary>
public class ReductionTests
{
    private static readonly Gen<(int Op, int Ranks, int Length, int Seed, bool InPlace)> Cases =
        Gen.Select(Gen.Int[0, 20], Gen.Int[1, 8], Gen.Int[0, 150], Gen.Int, Gen.Bool);

    public static TheoryData<ScalarType> Types => [.. ReductionReference.Types];

    [Theory]
    [MemberData(nameof(Types))]
    public void Run_AnyInput_EqualsTheScalarLoop(ScalarType type) => Cases.Sample(
        (choice, ranks, length, seed, inPlace) =>
        {
            ReduceOp[] ops = [.. ReductionReference.OperationsOf(type), .. type.IsFloatingPoint() ? new[] { ReduceOp.PreMulSum(1.0 / ranks) } : []];
            var op = ops[choice % ops.Length];
            switch (type)
            {
                case ScalarType.Float32: Check(op, type, Floats<float>(seed, ranks, length), inPlace, (a, b) => Combine(op, a, b), a => a * (float)op.Factor, a => a / ranks); break;
                case ScalarType.Float64: Check(op, type, Floats<double>(seed, ranks, length), inPlace, (a, b) => Combine(op, a, b), a => a * op.Factor, a => a / ranks); break;
                case ScalarType.Float16: CheckHalf(op, type, seed, ranks, length, inPlace, bits => (float)BitConverter.UInt16BitsToHalf(bits)); break;
                case ScalarType.BFloat16: CheckHalf(op, type, seed, ranks, length, inPlace, bits => BitConverter.Int32BitsToSingle(bits << 16)); break;
                case ScalarType.Int64: Check(op, type, Integers<long>(seed, ranks, length), inPlace, (a, b) => CombineBits(op, a, b), a => a, a => a); break;
                case ScalarType.Int32: Check(op, type, Integers<int>(seed, ranks, length), inPlace, (a, b) => CombineBits(op, a, b), a => a, a => a); break;
                case ScalarType.Int16: Check(op, type, Integers<short>(seed, ranks, length), inPlace, (a, b) => CombineBits(op, a, b), a => a, a => a); break;
                case ScalarType.Int8: Check(op, type, Integers<sbyte>(seed, ranks, length), inPlace, (a, b) => CombineBits(op, a, b), a => a, a => a); break;
                case ScalarType.Byte: Check(op, type, Integers<byte>(seed, ranks, length), inPlace, (a, b) => CombineBits(op, a, b), a => a, a => a); break;
                case ScalarType.Bool: Check(op, type, [.. Integers<byte>(seed, ranks, length).Select(row => row.Select(value => (byte)(value & 1)).ToArray())], inPlace, (a, b) => CombineBits(op.ForBooleans(), a, b), a => a, a => a); break;
                default: Assert.Fail($"{type} has no case."); break;
            }
        },
        iter: 300, threads: 1);

    [Fact]
    public void Share_OfAllRanks_CoversEachElementOnce() => Gen.Select(Gen.Long[0, 5000], Gen.Int[1, 9], Gen.Int[0, ReductionReference.Types.Length - 1]).Sample(
        (count, size, type) =>
        {
            var next = 0L;
            for (var rank = 0; rank < size; rank++)
            {
                var (begin, length) = Reduction.Share(count, ReductionReference.Types[type], rank, size);
                Assert.True(length >= 0);
                if (length > 0)
                    Assert.Equal(next, begin);
                next += length;
            }

            Assert.Equal(count, next);
        },
        iter: 1000, threads: 1);

    [Fact]
    public void Share_Always_BeginsAtACacheLine()
    {
        for (var rank = 0; rank < 3; rank++)
            Assert.Equal(0, Reduction.Share(10_000, ScalarType.Float32, rank, 3).Begin * 4 % 64);
    }

    private static unsafe void Check<T>(ReduceOp op, ScalarType type, T[][] inputs, bool inPlace, Func<T, T, T> combine, Func<T, T> scale, Func<T, T> divide)
        where T : unmanaged, INumber<T>
    {
        var expected = new T[inputs[0].Length];
        for (var i = 0; i < expected.Length; i++)
        {
            var result = scale(inputs[0][i]);
            for (var rank = 1; rank < inputs.Length; rank++)
                result = combine(result, scale(inputs[rank][i]));
            expected[i] = op == ReduceOp.Average ? divide(result) : result;
        }

        foreach (var actual in RunKernel(op, type, inputs, inPlace))
            for (var i = 0; i < expected.Length; i++)
                Assert.True(Same(expected[i], actual[i]), $"{op} of {type} over {inputs.Length} ranks, element {i} of {expected.Length}: {expected[i]} expected, {actual[i]} found.");
    }

    private static void CheckHalf(ReduceOp op, ScalarType type, int seed, int ranks, int length, bool inPlace, Func<ushort, float> widen)
    {
        var inputs = Integers<ushort>(seed, ranks, length); // all bit patterns
        using var scope = NewDisposeScope();
        var results = new float[length];
        for (var i = 0; i < length; i++)
        {
            var factor = (float)op.Factor;
            var result = widen(inputs[0][i]) * factor;
            for (var rank = 1; rank < ranks; rank++)
                result = Combine(op, result, widen(inputs[rank][i]) * factor);
            results[i] = op == ReduceOp.Average ? result / ranks : result;
        }

        var expected = MemoryMarshal.Cast<byte, ushort>(tensor(results).to(type).bytes).ToArray(); // libtorch rounds
        foreach (var actual in RunKernel(op, type, inputs, inPlace))
            for (var i = 0; i < length; i++)
                Assert.True(
                    expected[i] == actual[i] || (float.IsNaN(widen(expected[i])) && float.IsNaN(widen(actual[i]))),
                    $"{op} of {type} over {ranks} ranks, element {i}: {expected[i]:x4} expected, {actual[i]:x4} found.");
    }

    /// <summary>Every destination's content; in place the sources are the destinations, as in a bucket.</summary>
    private static unsafe T[][] RunKernel<T>(ReduceOp op, ScalarType type, T[][] inputs, bool inPlace)
        where T : unmanaged
    {
        var sources = inputs.Select(input => (T[])input.Clone()).ToArray();
        var destinations = inPlace ? sources : [new T[inputs[0].Length], new T[inputs[0].Length]];
        var pins = sources.Concat(destinations).Select(array => GCHandle.Alloc(array, GCHandleType.Pinned)).ToArray();
        var pointers = stackalloc byte*[pins.Length];
        for (var i = 0; i < pins.Length; i++)
            pointers[i] = (byte*)pins[i].AddrOfPinnedObject();
        Reduction.Run(op, type, pointers, sources.Length, pointers + sources.Length, destinations.Length, inputs[0].Length);
        Array.ForEach(pins, pin => pin.Free());
        if (!inPlace)
            Assert.Equal(MemoryMarshal.AsBytes(inputs[0].AsSpan()), MemoryMarshal.AsBytes(sources[0].AsSpan()));
        return destinations;
    }

    private static bool Same<T>(T a, T b)
        where T : unmanaged, INumber<T> =>
        (T.IsNaN(a) && T.IsNaN(b)) || MemoryMarshal.AsBytes(new[] { a }.AsSpan()).SequenceEqual(MemoryMarshal.AsBytes(new[] { b }.AsSpan()));

    private static T Combine<T>(ReduceOp op, T a, T b)
        where T : INumber<T> => op.Operation switch
        {
            ReduceOp.Kind.Product => a * b,
            ReduceOp.Kind.Min => T.Min(a, b),
            ReduceOp.Kind.Max => T.Max(a, b),
            _ => a + b,
        };

    private static T CombineBits<T>(ReduceOp op, T a, T b)
        where T : IBinaryInteger<T> => op.Operation switch
        {
            ReduceOp.Kind.BitwiseAnd => a & b,
            ReduceOp.Kind.BitwiseOr => a | b,
            ReduceOp.Kind.BitwiseXor => a ^ b,
            _ => Combine(op, a, b),
        };

    private static T[][] Floats<T>(int seed, int ranks, int length)
        where T : IFloatingPointIeee754<T>
    {
        var random = new Random(seed);
        T[] special = [T.NaN, T.PositiveInfinity, T.NegativeInfinity, T.Zero, T.NegativeZero, T.Epsilon, T.CreateChecked(3e38)];
        T Next() => random.Next(8) == 0 ? special[random.Next(special.Length)] : T.CreateChecked((random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-8, 9)));
        return Fill(ranks, length, Next);
    }

    private static T[][] Integers<T>(int seed, int ranks, int length)
        where T : IBinaryInteger<T>
    {
        var random = new Random(seed);
        return Fill(ranks, length, () => T.CreateTruncating(random.NextInt64(long.MinValue, long.MaxValue)));
    }

    private static T[][] Fill<T>(int ranks, int length, Func<T> next) =>
        [.. Enumerable.Range(0, ranks).Select(_ => Enumerable.Range(0, length).Select(_ => next()).ToArray())];
}
