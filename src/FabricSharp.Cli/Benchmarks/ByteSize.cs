using System.Globalization;

namespace FabricSharp.Cli.Benchmarks;

/// <summary>Sizes as people write them: 8, 64K, 1M, 2G; factors of 1024.</summary>
internal static class ByteSize
{
    private const string Suffixes = "KMG";
    private const long Largest = 16L << 30;

    public static bool TryParse(string text, out long bytes)
    {
        bytes = 0;
        var power = text.Length == 0 ? 0 : Suffixes.IndexOf(char.ToUpperInvariant(text[^1]), StringComparison.Ordinal) + 1;
        if (!long.TryParse(power > 0 ? text[..^1] : text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) || number < 1 || number > Largest >> (10 * power))
            return false;
        bytes = number << (10 * power);
        return true;
    }
}
