using System.Text.Json;
using System.Text.RegularExpressions;

namespace FabricSharp.MultiProcess.Tests;

/// <summary>What a program left behind.</summary>
internal sealed partial record ProgramResult(int ExitCode, string Output, string Error, TimeSpan Elapsed)
{
    private IReadOnlyList<JsonElement>? _reports;

    /// <summary>What the ranks reported, in rank order.</summary>
    public IReadOnlyList<JsonElement> Reports => _reports ??=
        [.. ReportLine().Matches(Output).Select(match => JsonDocument.Parse(match.Groups[1].Value).RootElement).OrderBy(report => report.GetProperty("rank").GetInt32())];

    /// <summary>One report of each of <paramref name="ranks"/> ranks, or the test fails with what the program printed.</summary>
    public IReadOnlyList<JsonElement> ReportsOf(int ranks)
    {
        Assert.True(ExitCode == 0, $"Exit code {ExitCode}.\n{this}");
        Assert.True(Reports.Select(report => report.GetProperty("rank").GetInt32()).SequenceEqual(Enumerable.Range(0, ranks)), $"Reports of other ranks than 0 to {ranks - 1}.\n{this}");
        return Reports;
    }

    public override string ToString() => $"--- output\n{Output}\n--- error\n{Error}\n--- after {Elapsed.TotalSeconds:F1} s";

    [GeneratedRegex(@"^(?:\[rank \d+\] )?report (\{.*\})$", RegexOptions.Multiline)]
    private static partial Regex ReportLine();
}
