using FabricSharp.Loggers;
using FabricSharp.Tests.Configuration;
using static FabricSharp.Tests.Loggers.LogFiles;

namespace FabricSharp.Tests.Loggers;

public class LoggingRankTests
{
    [Theory]
    [InlineData("", 0)]
    [InlineData("LOCAL_RANK=0", 0)]
    [InlineData("LOCAL_RANK=2", 2)]
    [InlineData("LOCAL_RANK=0 NODE_RANK=1", 1)]
    [InlineData("LOCAL_RANK=0 GROUP_RANK=1", 1)]
    [InlineData("LOCAL_RANK=0 NODE_RANK=1 RANK=8", 8)]
    [InlineData("SLURM_PROCID=3", 3)]
    [InlineData("OMPI_COMM_WORLD_RANK=4", 4)]
    [InlineData("RANK=x", 0)]
    public void Read_OfVariables_FindsTheRank(string variables, int expected)
    {
        var pairs = variables.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(text => (text.Split('=')[0], text.Split('=')[1])).ToArray();
        Assert.Equal(expected, LoggingRank.Read(RecordedVariables.Of(pairs)));
    }

    [Fact]
    public void Loggers_OnAnotherRank_DoNothingAndCreateNoFiles()
    {
        using var files = new LogFiles();
        foreach (FileLogger logger in new FileLogger[] { new CsvLogger(files["csv"], flushLogsEveryNSteps: 1), new TensorBoardLogger(files["tb"]) })
        {
            logger.BindTo(1);
            logger.LogMetrics(Metrics(("a", 1)));
            logger.LogGroup("g", Metrics(("a", 1)));
            logger.LogHyperparameters(new Dictionary<string, object?> { ["lr"] = 1 });
            logger.Save();
            logger.Finalize("success");
        }

        Assert.Empty(Directory.EnumerateFileSystemEntries(files.Root));
    }

    [Fact]
    public void Log_RanksAreThreads_OnlyRankZeroWrites()
    {
        using var files = new LogFiles();
        var logger = new CsvLogger(files.Root, "", 0);
        using (var fabric = new Fabric(accelerator: "cpu", devices: 3, strategy: "ddp_notebook", loggers: [logger]))
            fabric.Launch(f =>
            {
                f.Log("rank", f.GlobalRank);
                logger.LogMetrics(Metrics(("direct", f.GlobalRank)));
                Task.Run(() => logger.LogMetrics(Metrics(("task", f.GlobalRank)))).GetAwaiter().GetResult();
            });
        Assert.Equal(["direct,rank,step,task", ",0,0,", "0,,1,", ",,2,0"], files.Lines("version_0/metrics.csv"));
    }
}
