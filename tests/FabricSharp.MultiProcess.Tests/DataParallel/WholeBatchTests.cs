namespace FabricSharp.MultiProcess.Tests.DataParallel;

/// <summary>Batch normalisation over real ranks with batches of different sizes.</summary>
public sealed class WholeBatchTests
{
    [Theory]
    [InlineData("on")]
    [InlineData("off")]
    public async Task Train_ConvertedModel_FollowsTrainingAloneWithTheWholeBatch(string hooks)
    {
        var result = await RunningProgram.RunWorkerAsync("whole-batch ranks=2", null, ("FABRIC_GRADIENT_HOOKS", hooks));
        var reports = result.ReportsOf(2);
        foreach (var report in reports)
        {
            Assert.InRange(report.GetProperty("difference").GetDouble(), 0, 1e-4);
            Assert.True(report.GetProperty("names").GetBoolean());
        }

        Assert.Equal(reports[0].GetProperty("mean").GetRawText(), reports[1].GetProperty("mean").GetRawText());
    }
}
