using System.Text.Json;

namespace FabricSharp.Cli.Benchmarks;

/// <summary>What <c>fabric bench all-reduce</c> was asked to measure; the same on every rank, who get it as one argument.</summary>
/// <param name="Ranks">Processes on this machine; null: as many as something else has started, or the usual number.</param>
/// <param name="Backend">The process group's.</param>
/// <param name="Sizes">Bytes, from small to large.</param>
/// <param name="Types">Names of <see cref="ElementTypes"/>.</param>
/// <param name="Operations">Names of <see cref="ReduceOperations"/>.</param>
/// <param name="Iterations">Timed calls of each size.</param>
/// <param name="Json">Rows as JSON.</param>
/// <param name="Memcpy">This machine's bandwidth of copying, of one core, in GB/s.</param>
internal sealed record AllReducePlan(int? Ranks, string Backend, long[] Sizes, string[] Types, string[] Operations, int Iterations, bool Json, double Memcpy)
{
    public string ToArgument() => JsonSerializer.Serialize(this);

    public static AllReducePlan Parse(string argument) => JsonSerializer.Deserialize<AllReducePlan>(argument)!;

    /// <summary>Sizes from one to another, each so many times the one before.</summary>
    public static long[] SizesBetween(long first, long last, int factor)
    {
        var sizes = new List<long>();
        for (var size = first; size <= last; size *= factor)
            sizes.Add(size);
        return [.. sizes];
    }
}
