using System.Globalization;

namespace FabricSharp.Cli.Report;

/// <summary>Quantities as people read them.</summary>
internal static class Text
{
    public static string Duration(double nanoseconds) => Math.Abs(nanoseconds) switch
    {
        >= 1e9 => Number(nanoseconds / 1e9) + " s",
        >= 1e6 => Number(nanoseconds / 1e6) + " ms",
        >= 1e3 => Number(nanoseconds / 1e3) + " µs",
        _ => nanoseconds.ToString("0", CultureInfo.InvariantCulture) + " ns",
    };

    public static string Bytes(double bytes) => Math.Abs(bytes) switch
    {
        >= 1L << 40 => Number(bytes / (1L << 40)) + " TiB",
        >= 1 << 30 => Number(bytes / (1 << 30)) + " GiB",
        >= 1 << 20 => Number(bytes / (1 << 20)) + " MiB",
        >= 1 << 10 => Number(bytes / (1 << 10)) + " KiB",
        _ => bytes.ToString("0", CultureInfo.InvariantCulture) + " B",
    };

    public static string Percent(double share) => share == 0 ? "0 %" : (100 * share).ToString(Math.Abs(share) < 0.0995 ? "0.0" : "0", CultureInfo.InvariantCulture) + " %";

    /// <summary>About three significant digits.</summary>
    public static string Number(double value) => Math.Abs(value) switch
    {
        0 => "0",
        >= 1e7 or < 1e-3 => value.ToString("0.##E+0", CultureInfo.InvariantCulture),
        >= 100 => value.ToString("#,0", CultureInfo.InvariantCulture),
        >= 10 => value.ToString("0.#", CultureInfo.InvariantCulture),
        >= 1 => value.ToString("0.##", CultureInfo.InvariantCulture),
        _ => value.ToString("0.###", CultureInfo.InvariantCulture),
    };

    public static string Count(long value) => value.ToString("#,0", CultureInfo.InvariantCulture);

    public static string Ranks(IReadOnlyCollection<int> ranks) => (ranks.Count == 1 ? "rank " : "ranks ") + string.Join(", ", ranks);

    /// <summary>The first few, and how many more there are.</summary>
    public static string Few(IReadOnlyList<string> names, int shown = 6) =>
        string.Join(", ", names.Take(shown)) + (names.Count > shown ? $" and {names.Count - shown} more" : "");
}
