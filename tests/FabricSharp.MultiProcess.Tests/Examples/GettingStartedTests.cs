using System.Globalization;
using System.Text.RegularExpressions;

namespace FabricSharp.MultiProcess.Tests.Examples;

/// <summary>The page docs/getting-started.md and its programs: they run, and the page shows them as they are.</summary>
public sealed partial class GettingStartedTests : IDisposable
{
    private static readonly string[] Steps = ["Plain", "WithFabric", "WithBranches", "WithFlag", "Finished"];
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(1);

    private readonly string _folder = Directory.CreateTempSubdirectory("fabricsharp-started-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("Plain", 0.95)]
    [InlineData("WithFabric", 0.95, "1")]
    [InlineData("WithFabric", 0.95, "2")]
    [InlineData("WithFlag", 0.85, "2")]
    public async Task Run_EightEpochs_LearnsTheSpirals(string step, double accuracy, params string[] arguments)
    {
        var result = await RunAsync(step, arguments);
        Assert.True(result.ExitCode == 0, result.ToString());
        var epochs = EpochsOf(result);
        Assert.Equal(Enumerable.Range(1, 8), epochs.Select(epoch => epoch.Number));
        Assert.True(epochs[^1].Loss < epochs[0].Loss / 2, result.Output);
        Assert.InRange(epochs[^1].Accuracy, accuracy, 1);
    }

    [Fact]
    public async Task Run_BranchesWithoutTheFlag_PrintsTheErrorOfThePage()
    {
        var result = await RunAsync("WithBranches", "2");
        Assert.NotEqual(0, result.ExitCode);
        var block = Blocks("").Single(block => block.StartsWith("FabricSharp.DataParallel.UnfinishedReductionException", StringComparison.Ordinal));
        var lines = result.Error.Split('\n').ToLookup(line => Rank().IsMatch(line)); // whichever rank ends first: both see it
        var (mine, other) = (string.Join('\n', lines[false]), Rank().Replace(string.Join('\n', lines[true]), ""));
        Assert.True(
            mine.Contains(block, StringComparison.Ordinal) || other.Contains(block.Replace("rank 0 of 2", "rank 1 of 2", StringComparison.Ordinal), StringComparison.Ordinal),
            result.ToString());
    }

    [Fact]
    public async Task Run_WithTheFlag_ShowsWhichBlocksWentUnused()
    {
        var result = await RunAsync("WithFlag", "2");
        Assert.Contains("unused in 320 passes", result.Output, StringComparison.Ordinal);
        Assert.Equal(6, Regex.Count(result.Output, @"^blocks\.[012]\.(weight|bias) ", RegexOptions.Multiline));
        Assert.DoesNotMatch("(?m)^(first|last)", result.Output);
    }

    [Fact]
    public async Task Run_FinishedTwice_GoesOnWhereItStopped()
    {
        var first = EpochsOf(await RunAsync("Finished", "2", "2"));
        var second = EpochsOf(await RunAsync("Finished", "2", "4"));
        Assert.Equal([1, 2], first.Select(epoch => epoch.Number));
        Assert.Equal([3, 4], second.Select(epoch => epoch.Number));
        Assert.True(second[^1].Loss < first[0].Loss, "It began anew.");
        Assert.True(File.Exists(Path.Combine(_folder, "spirals", "manifest.json")));
    }

    [Fact]
    public void Page_CSharp_IsTheFirstProgram() => Assert.Equal(ProgramOf("Plain"), Assert.Single(Blocks("csharp")));

    [Fact]
    public void Page_Differences_TurnEachProgramIntoTheNext()
    {
        var differences = Blocks("diff");
        Assert.Equal(Steps.Length - 1, differences.Count);
        for (var i = 0; i < differences.Count; i++)
            Assert.Equal(ProgramOf(Steps[i + 1]), Apply(differences[i], ProgramOf(Steps[i])));
    }

    private static string ProgramOf(string step) => File.ReadAllText(Path.Combine(Programs.RepositoryRoot, "examples", "GettingStarted", step, "Program.cs"));

    /// <summary>The page's blocks in a language.</summary>
    private static List<string> Blocks(string language)
    {
        var page = File.ReadAllText(Path.Combine(Programs.RepositoryRoot, "docs", "getting-started.md"));
        return [.. Fence().Matches(page).Where(match => match.Groups["language"].Value == language).Select(match => match.Groups["content"].Value)];
    }

    /// <summary>Applies a unified diff, strictly: every context line and every removed line has to be there, where the hunk says.</summary>
    private static string Apply(string difference, string before)
    {
        var (old, result, at) = (before.Split('\n'), new List<string>(), 0);
        foreach (var line in difference.TrimEnd('\n').Split('\n'))
        {
            if (Hunk().Match(line) is { Success: true } hunk)
            {
                var start = int.Parse(hunk.Groups[1].Value, CultureInfo.InvariantCulture) - 1;
                result.AddRange(old[at..start]);
                at = start;
            }
            else if (line[0] == '+')
            {
                result.Add(line[1..]);
            }
            else
            {
                Assert.Equal(old[at], line[1..]);
                if (line[0] == ' ')
                    result.Add(old[at]);
                at++;
            }
        }

        return string.Join('\n', result.Concat(old[at..]));
    }

    private static List<(int Number, double Loss, double Accuracy)> EpochsOf(ProgramResult result)
    {
        Assert.True(result.ExitCode == 0, result.ToString());
        return [.. Epoch().Matches(result.Output).Select(match => (int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture), Number(match.Groups[2]), Number(match.Groups[3]) / 100))];
    }

    private static double Number(Group group) => double.Parse(group.Value, CultureInfo.InvariantCulture);

    private async Task<ProgramResult> RunAsync(string step, params string[] arguments)
    {
        using var program = RunningProgram.In(_folder, Programs.GettingStarted(step), arguments);
        return await program.EndAsync(Limit);
    }

    [GeneratedRegex(@"^```(?<language>\w*)\n(?<content>.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Fence();

    [GeneratedRegex(@"^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@$")]
    private static partial Regex Hunk();

    [GeneratedRegex(@"^epoch (\d+): loss ([\d.]+), accuracy ([\d.]+) %$", RegexOptions.Multiline)]
    private static partial Regex Epoch();

    [GeneratedRegex(@"^\[rank \d\] (?:Unhandled exception\. )?", RegexOptions.Multiline)]
    private static partial Regex Rank();
}
