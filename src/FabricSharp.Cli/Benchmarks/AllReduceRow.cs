using System.Globalization;
using System.Text.Json;

namespace FabricSharp.Cli.Benchmarks;

/// <summary>One line of the table, in the columns that nccl-tests made familiar. Bandwidths in GB (10⁹ bytes) per second.</summary>
internal sealed record AllReduceRow(string Backend, int Ranks, long Size, long Count, string Type, string RedOp, double Microseconds, long Wrong)
{
    public double AlgorithmBandwidth => Size / Microseconds / 1e3;

    /// <summary>What each rank's link carries at least: an all-reduce moves 2 (n − 1) / n times the data, whatever the algorithm.</summary>
    public double BusBandwidth => AlgorithmBandwidth * 2 * (Ranks - 1) / Ranks;

    public static string Header =>
        FormattableString.Invariant($"#{"size",13} {"count",13} {"type",9} {"redop",6} {"time",11} {"algbw",8} {"busbw",8} {"#wrong",8}\n") +
        FormattableString.Invariant($"#{"(B)",13} {"(elements)",13} {"",9} {"",6} {"(us)",11} {"(GB/s)",8} {"(GB/s)",8} {"",8}");

    public string ToText() => string.Create(CultureInfo.InvariantCulture, $" {Size,13} {Count,13} {Type,9} {RedOp,6} {Microseconds,11:F2} {AlgorithmBandwidth,8:F2} {BusBandwidth,8:F2} {Wrong,8}");

    public string ToJson(double memcpy) => JsonSerializer.Serialize(new
    {
        collective = "all_reduce",
        backend = Backend,
        ranks = Ranks,
        size = Size,
        count = Count,
        type = Type,
        redop = RedOp,
        time_us = Math.Round(Microseconds, 3),
        algbw_gbps = Math.Round(AlgorithmBandwidth, 4),
        busbw_gbps = Math.Round(BusBandwidth, 4),
        wrong = Wrong,
        memcpy_gbps = Math.Round(memcpy, 2),
    });
}
