namespace FabricSharp.MultiProcess.Tests.DataParallel;

/// <summary>An optimizer whose state is spread over real ranks.</summary>
public sealed class ShardedOptimizerTests
{
    [Fact]
    public async Task Train_SharedOutOrResumedFromIt_GivesTheBitsOfThePlainOptimizer()
    {
        var folder = Directory.CreateTempSubdirectory("fabricsharp-sharded");
        try
        {
            var result = await RunningProgram.RunWorkerAsync($"sharded-optimizer ranks=2 flag=true path={Path.Combine(folder.FullName, "c")}");
            var reports = result.ReportsOf(2);
            var hashes = reports.SelectMany(report => new[] { "plain", "sharded", "swapped" }.Select(name => report.GetProperty(name).GetString())).ToList();
            Assert.Single(hashes.Distinct());
            Assert.All(reports, report => Assert.InRange(report.GetProperty("owned").GetInt64(), 80, 168)); // of 248
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }
}
