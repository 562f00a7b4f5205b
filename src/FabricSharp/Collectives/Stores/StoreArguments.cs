using System.Runtime.CompilerServices;

namespace FabricSharp.Collectives.Stores;

/// <summary>The checks of arguments that all stores make.</summary>
internal static class StoreArguments
{
    private static readonly TimeSpan LongestLimit = TimeSpan.FromMilliseconds(int.MaxValue);

    /// <summary>Each wait has a limit: refuses negative time-outs, the infinite one included.</summary>
    public static void CheckTimeout(TimeSpan timeout, [CallerArgumentExpression(nameof(timeout))] string? name = null)
    {
        if (timeout < TimeSpan.Zero || timeout > LongestLimit)
        {
            throw new ArgumentOutOfRangeException(
                name,
                timeout,
                $"A store's time-out is between 0 and {LongestLimit.TotalDays:F0} days (there is no infinite wait); got {timeout}.");
        }
    }

    public static void CheckKeys(IReadOnlyList<string> keys)
    {
        ArgumentNullException.ThrowIfNull(keys);
        for (var i = 0; i < keys.Count; i++)
        {
            if (keys[i] is null)
                throw new ArgumentException($"Key {i} of {keys.Count} is null.", nameof(keys));
        }
    }

    public static void CheckPairs(IReadOnlyList<string> keys, IReadOnlyList<byte[]> values)
    {
        CheckKeys(keys);
        ArgumentNullException.ThrowIfNull(values);
        if (keys.Count != values.Count)
            throw new ArgumentException($"There must be as many values as keys; got {keys.Count} keys, {values.Count} values.", nameof(values));

        for (var i = 0; i < values.Count; i++)
        {
            if (values[i] is null)
                throw new ArgumentException($"Value {i} of {values.Count} (key '{keys[i]}') is null.", nameof(values));
        }
    }
}
