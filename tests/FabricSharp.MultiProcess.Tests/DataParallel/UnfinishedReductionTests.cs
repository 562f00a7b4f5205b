namespace FabricSharp.MultiProcess.Tests.DataParallel;

/// <summary>Without the flag an unused parameter is the documented error, on every rank, whichever rank lacked it.</summary>
public sealed class UnfinishedReductionTests
{
    [Theory]
    [InlineData("all", "step", 2)]
    [InlineData("all", "forward", 3)]
    [InlineData("1", "step", 2)]
    [InlineData("0", "forward", 2)]
    [InlineData("2", "step", 4)]
    public async Task Train_BranchUnused_ThrowsOnEveryRankWithNamesAndRemedies(string where, string at, int ranks)
    {
        var result = await RunningProgram.RunWorkerAsync($"unfinished where={where} at={at} ranks={ranks}");
        foreach (var report in result.ReportsOf(ranks))
        {
            Assert.Equal("UnfinishedReductionException", report.GetProperty("exception").GetString());
            var message = report.GetProperty("message").GetString()!;
            Assert.StartsWith("Expected to have finished reduction in the prior iteration before starting a new one.", message, StringComparison.Ordinal);
            Assert.Contains($"branches.1.0.weight, no gradient on {(where == "all" ? "all ranks" : $"rank {where}")}", message, StringComparison.Ordinal);
            Assert.Contains("strategy: \"ddp_find_unused_parameters_true\"", message, StringComparison.Ordinal);
            Assert.Contains("new DDPStrategy(findUnusedParameters: true)", message, StringComparison.Ordinal);
            Assert.Equal([4, 5, 6, 7, 8], report.GetProperty("indices").EnumerateArray().Select(index => index.GetInt32()));
            Assert.Equal(report.GetProperty("rank").GetInt32(), report.GetProperty("errorRank").GetInt32());
            Assert.True(report.GetProperty("again").GetBoolean(), "The error did not come a second time.");
        }
    }

    [Fact]
    public async Task Train_StaticGraphChanges_ThrowsOnEveryRank()
    {
        var result = await RunningProgram.RunWorkerAsync("train case=unused-changes ranks=2 static=true");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("your training graph has changed in this iteration", result.Error, StringComparison.Ordinal);
    }
}
