namespace FabricSharp.MultiProcess.Tests.DataParallel;

/// <summary>Ranks must set up the same model in the same way; what differs is named on every rank.</summary>
public sealed class SetupTests
{
    [Theory]
    [InlineData("shape", 2, "parameter '1.weight' (shape [4, 8]", "rank 1 has parameter '1.weight' (shape [5, 8]")]
    [InlineData("shape", 3, "parameter '1.weight' (shape [4, 8]", "rank 2 has parameter '1.weight' (shape [5, 8]")]
    [InlineData("count", 2, "Rank 0 has 4 params, while rank 1 has inconsistent 6 params", "'2.weight'")]
    [InlineData("dtype", 2, "Float32", "Float64")]
    [InlineData("frozen", 2, "trainable", "frozen")]
    public async Task Setup_ModelsDiffer_ThrowsOnEveryRankWithBothVersions(string how, int ranks, string first, string second)
    {
        var result = await RunningProgram.RunWorkerAsync($"models-differ how={how} ranks={ranks}");
        foreach (var report in result.ReportsOf(ranks))
        {
            Assert.Equal("InvalidOperationException", report.GetProperty("exception").GetString());
            var message = report.GetProperty("message").GetString()!;
            Assert.StartsWith("DDP expects same model across all ranks", message, StringComparison.Ordinal);
            Assert.Contains(first, message, StringComparison.Ordinal);
            Assert.Contains(second, message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Setup_NothingToTrain_ThrowsOnEveryRank()
    {
        var result = await RunningProgram.RunWorkerAsync("models-differ how=nothing");
        foreach (var report in result.ReportsOf(2))
            Assert.Contains("doesn't have any parameter that requires a gradient", report.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Setup_OptionsDiffer_NamesTheOptionOnEveryRank()
    {
        var result = await RunningProgram.RunWorkerAsync("options-differ");
        foreach (var report in result.ReportsOf(2))
            Assert.Contains("rank 0 has setting 'findUnusedParameters' (False), rank 1 has setting 'findUnusedParameters' (True)", report.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Forward_RunningStatistics_FollowRankZeroUnlessSwitchedOff(bool broadcast)
    {
        var result = await RunningProgram.RunWorkerAsync($"buffers broadcast={(broadcast ? "true" : "false")}");
        var means = result.ReportsOf(2).Select(report => report.GetProperty("mean").EnumerateArray().Select(value => value.GetSingle()).ToArray()).ToList();
        Assert.Equal(broadcast, means[0].SequenceEqual(means[1]));
    }
}
