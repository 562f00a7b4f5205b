using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.Launching;

/// <summary>A program makes a Fabric, trains, and makes the next; the ranks come to each launch in any order.</summary>
public sealed class SeveralFabricsTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData("ranks=2 dispose=true late=0")] // rank 1 finds the store of the first launch
    [InlineData("ranks=2 dispose=true late=1")]
    [InlineData("ranks=3 late=0")]
    [InlineData("ranks=2 late=0 threads=true dispose=true")]
    [InlineData("ranks=3 late=1 threads=true")]
    public async Task Launch_ThreeFabrics_EachHasItsRanks(string arguments)
    {
        var ranks = arguments[6] - '0';
        var result = await RunningProgram.RunWorkerAsync($"several-fabrics {arguments}", Limit);
        AssertTrained(result.ReportsOf(ranks));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Launch_ThreeFabricsOfRanksStartedOutside_EachHasItsRanks(bool isTorchrun)
    {
        var port = ExternalRanks.FreePort();
        using var agent = isTorchrun ? RunningProgram.Worker($"serve-store port={port}") : null;
        if (agent is not null)
            await agent.SeeAsync(line => line == "serving", Limit);
        for (var attempt = 0; attempt < (isTorchrun ? 2 : 1); attempt++) // torchrun starts workers again, with the same store
        {
            (string, string?)[] Environment(int rank) => [.. isTorchrun ? ExternalRanks.Torchrun(rank, 2, port, attempt) : ExternalRanks.Local(rank, 2, port)];
            using var second = RunningProgram.Worker("several-fabrics ranks=2 dispose=true late=0", Environment(1));
            using var first = RunningProgram.Worker("several-fabrics ranks=2 dispose=true late=0", Environment(0));
            var results = new[] { await first.EndAsync(Limit), await second.EndAsync(Limit) };
            Assert.All(results, result => Assert.True(result.ExitCode == 0, result.ToString()));
            AssertTrained([.. results.SelectMany(result => result.Reports)]);
        }
    }

    /// <summary>Sums over the ranks of each launch, and weights that are equal on all ranks but differ between the launches.</summary>
    private static void AssertTrained(IReadOnlyList<JsonElement> reports)
    {
        var rankSum = Enumerable.Range(1, reports.Count).Sum();
        Assert.All(reports, report => Assert.Equal([1.0 * rankSum, 2.0 * rankSum, 3.0 * rankSum], Numbers(report, "sums")));
        Assert.All(reports, report => Assert.Equal(Numbers(reports[0], "weights"), Numbers(report, "weights")));
        Assert.Equal(3, Numbers(reports[0], "weights").Distinct().Count());
    }

    private static double[] Numbers(JsonElement report, string name) => [.. report.GetProperty(name).EnumerateArray().Select(number => number.GetDouble())];
}
