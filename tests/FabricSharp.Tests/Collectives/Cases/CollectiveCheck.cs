using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.Cases;

/// <summary>Assertions of cases, which run in test threads and in worker processes, where no test framework is.</summary>
internal static class CollectiveCheck
{
    public static void That(bool holds, string what)
    {
        if (!holds)
            throw new InvalidOperationException($"The case does not hold: {what}");
    }

    public static void SameBits(Tensor expected, Tensor actual, string what) =>
        That(ReductionReference.Bits(expected).AsSpan().SequenceEqual(ReductionReference.Bits(actual)), $"{what}: other numbers than expected.");

    public static void Same<T>(T expected, T actual, string what) => That(EqualityComparer<T>.Default.Equals(expected, actual), $"{what}: {expected} expected, {actual} found.");

    public static void SameItems<T>(IEnumerable<T> expected, IEnumerable<T> actual, string what) =>
        That(expected.SequenceEqual(actual), $"{what}: ({string.Join(", ", expected)}) expected, ({string.Join(", ", actual)}) found.");

    /// <summary>What <paramref name="action"/> throws, which must be a <typeparamref name="T"/>.</summary>
    public static T Throws<T>(Action action)
        where T : Exception
    {
        try
        {
            action();
        }
        catch (T e)
        {
            return e;
        }

        throw new InvalidOperationException($"The case does not hold: no {typeof(T).Name} was thrown.");
    }
}
