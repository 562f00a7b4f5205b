namespace FabricSharp.MultiProcess.Tests.Precision;

/// <summary>Precisions with real ranks: the replicas stay equal to the bit, in the type that was asked for.</summary>
public sealed class PrecisionTests
{
    [Theory]
    [InlineData("64-true", "Float64")]
    [InlineData("bf16-true", "BFloat16")]
    [InlineData("16-true", "Float16")]
    [InlineData("bf16-mixed", "Float32")]
    [InlineData("scaled", "Float32")]
    public async Task Train_BranchesDifferByRank_KeepsReplicasEqualInThatType(string precision, string type)
    {
        var result = await RunningProgram.RunWorkerAsync($"precision flag=true precision={precision}");
        var reports = result.ReportsOf(2);
        Assert.Equal(reports[0].GetProperty("hash").GetString(), reports[1].GetProperty("hash").GetString());
        foreach (var report in reports)
        {
            Assert.Equal([type], Texts(report, "parameters"));
            Assert.Equal([type], Texts(report, "gradients"));
            Assert.Equal("Float32", report.GetProperty("defaultType").GetString());
            Assert.Equal(0, report.GetProperty("skipped").GetArrayLength());
            var losses = report.GetProperty("losses").EnumerateArray().Select(loss => loss.GetDouble()).ToList();
            Assert.True(losses[3] < losses[0] && losses[4] < losses[1], string.Join(" ", losses)); // the same branches again
        }
    }

    [Fact]
    public async Task Step_OneRankOverflows_SkipsOnAllRanksAndHalvesTheScale()
    {
        var result = await RunningProgram.RunWorkerAsync("precision flag=true precision=scaled overflow=2");
        var reports = result.ReportsOf(2);
        Assert.Equal(reports[0].GetProperty("hash").GetString(), reports[1].GetProperty("hash").GetString());
        foreach (var report in reports)
        {
            Assert.Equal([2], report.GetProperty("skipped").EnumerateArray().Select(step => step.GetInt32()));
            Assert.Equal(32768, report.GetProperty("scale").GetDouble());
        }
    }

    private static IEnumerable<string?> Texts(System.Text.Json.JsonElement report, string name) => report.GetProperty(name).EnumerateArray().Select(text => text.GetString());
}
