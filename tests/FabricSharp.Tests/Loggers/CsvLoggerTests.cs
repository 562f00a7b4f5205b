using System.Globalization;
using System.Text;
using FabricSharp.Loggers;
using static FabricSharp.Tests.Loggers.LogFiles;

namespace FabricSharp.Tests.Loggers;

public class CsvLoggerTests
{
    [Fact]
    public void LogMetrics_StepsGiven_WritesSortedColumnsAndTheStep()
    {
        using var files = new LogFiles();
        var lines = files.Csv(logger =>
        {
            logger.LogMetrics(Metrics(("zeta", 0.1), ("acc", 1)), 10);
            logger.LogMetrics(Metrics(("acc", -1e-300), ("zeta", double.NaN)), 20);
        });
        Assert.Equal(["acc,step,zeta", "1,10,0.1", "-1E-300,20,NaN"], lines);
    }

    [Fact]
    public void LogMetrics_StepsNotGiven_CountsOnOverFlushes()
    {
        using var files = new LogFiles();
        var lines = files.Csv(logger => Enumerable.Range(0, 5).ToList().ForEach(i => logger.LogMetrics(Metrics(("a", i)))), every: 2);
        Assert.Equal(["a,step", "0,0", "1,1", "2,2", "3,3", "4,4"], lines);
    }

    [Fact]
    public void LogMetrics_NewColumnAfterAFlush_RewritesTheHeaderAndKeepsTheRows()
    {
        using var files = new LogFiles();
        var lines = files.Csv(logger =>
        {
            logger.LogMetrics(Metrics(("b", 1)), 0);
            logger.Save();
            logger.LogMetrics(Metrics(("a", 2)), 1);
            logger.Save();
            logger.LogMetrics(Metrics(("b", 3)), 2);
            logger.Save();
            logger.LogMetrics(Metrics(("z, \"quoted\"", 4)), 3);
        });
        Assert.Equal(["a,b,step,\"z, \"\"quoted\"\"\"", ",1,0,", "2,,1,", ",3,2,", ",,3,4"], lines);
        Assert.Equal(["run/metrics.csv"], files.All);
    }

    [Fact]
    public void LogMetrics_ForeignCulture_WritesPoints()
    {
        var before = CultureInfo.CurrentCulture;
        try
        {
            var foreign = (CultureInfo)CultureInfo.InvariantCulture.Clone();
            (foreign.NumberFormat.NumberDecimalSeparator, foreign.NumberFormat.NegativeSign) = (",", "−");
            CultureInfo.CurrentCulture = foreign;
            using var files = new LogFiles();
            Assert.Equal(["step,x", "-1,-1.5"], files.Csv(logger => logger.LogMetrics(Metrics(("x", -1.5)), -1)));
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public void LogMetrics_NamesOfOtherScripts_AreUtf8WithoutAMark()
    {
        using var files = new LogFiles();
        files.Csv(logger => logger.LogMetrics(Metrics(("Präzision", 1)), 0));
        Assert.Equal(Encoding.UTF8.GetBytes("Präzision,step\n1,0\n"), File.ReadAllBytes(files["run/metrics.csv"]));
    }

    [Fact]
    public void LogMetrics_FlushInterval_WritesAfterSoManyRowsOrAtTheStep()
    {
        using var files = new LogFiles();
        using var logger = new CsvLogger(files.Root, "", 0, flushLogsEveryNSteps: 3);
        logger.LogMetrics(Metrics(("a", 1)), 0);
        logger.LogMetrics(Metrics(("a", 2)), 10);
        Assert.Empty(files.Lines0());
        logger.LogMetrics(Metrics(("a", 3)), 20);
        Assert.Equal(4, files.Lines0().Length);
        logger.LogMetrics(Metrics(("a", 4)), 29); // (29 + 1) % 3 == 0
        Assert.Equal("4,29", files.Lines0()[^1]);
    }

    [Fact]
    public void LogMetrics_TimeGoesBy_WritesAfterTheInterval()
    {
        using var files = new LogFiles();
        var time = new ManualTime(DateTimeOffset.UnixEpoch);
        using var logger = new CsvLogger(files.Root, "", 0, "", 100, TimeSpan.FromSeconds(5), time);
        logger.LogMetrics(Metrics(("a", 1)));
        time.Advance(TimeSpan.FromSeconds(4));
        Assert.Empty(files.Lines0());
        time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(["a,step", "1,0"], files.Lines0());
        logger.LogMetrics(Metrics(("a", 2)));
        time.Advance(TimeSpan.FromSeconds(5));
        Assert.Equal("2,1", files.Lines0()[^1]);
    }

    [Fact]
    public void LogMetrics_FileCannotBeWritten_ThrowsAndLosesNothing()
    {
        using var files = new LogFiles();
        using var logger = new CsvLogger(files.Root, "", 0, flushLogsEveryNSteps: 1);
        logger.LogMetrics(Metrics(("a", 1)));
        var path = files["version_0/metrics.csv"];
        File.Move(path, path + ".moved");
        Directory.CreateDirectory(path);
        Assert.ThrowsAny<Exception>(() => logger.LogMetrics(Metrics(("a", 2))));
        Directory.Delete(path);
        File.Move(path + ".moved", path);
        logger.LogMetrics(Metrics(("a", 3)));
        Assert.Equal(["a,step", "1,0", "2,1", "3,2"], files.Lines0());
    }

    [Theory]
    [InlineData(new string[0], "0")]
    [InlineData(new[] { "version_0" }, "1")]
    [InlineData(new[] { "version_3", "version_11", "version_x", "other", "version_" }, "12")]
    public void Version_NotGiven_IsOneMoreThanTheHighest(string[] existing, string expected)
    {
        using var files = new LogFiles();
        foreach (var folder in existing)
            Directory.CreateDirectory(files["exp/" + folder]);
        using var logger = new CsvLogger(files.Root, "exp");
        Assert.Equal(expected, logger.Version);
        Assert.Equal(files[$"exp/version_{expected}"], logger.LogDirectory);
        Assert.Equal(existing.Length, Directory.Exists(files["exp"]) ? Directory.GetDirectories(files["exp"]).Length : 0);
    }

    [Fact]
    public void Version_Given_NamesTheFolder()
    {
        using var files = new LogFiles();
        using var number = new CsvLogger(files.Root, version: 7);
        using var name = new CsvLogger(files.Root, "", "best");
        Assert.Equal((files["lightning_logs/version_7"], "7"), (number.LogDirectory, number.Version));
        Assert.Equal((files["best"], "best"), (name.LogDirectory, name.Version));
        Assert.Throws<ArgumentOutOfRangeException>(() => new CsvLogger(files.Root, version: -1));
        Assert.Throws<ArgumentException>(() => new CsvLogger(files.Root, version: ""));
    }

    [Fact]
    public void LogMetrics_FolderHoldsMetrics_WarnsAndBeginsAnew()
    {
        using var files = new LogFiles();
        files.Csv(logger => logger.LogMetrics(Metrics(("old", 1))));
        string[] lines = [];
        var warning = StandardError.Of(() => lines = files.Csv(logger => logger.LogMetrics(Metrics(("new", 1)))));
        Assert.Contains($"Experiment logs directory {files["run"]} exists and is not empty.", warning, StringComparison.Ordinal);
        Assert.Equal(["new,step", "1,0"], lines);
    }

    [Fact]
    public void LogMetrics_NewFolder_DoesNotWarn()
    {
        using var files = new LogFiles();
        Assert.Equal("", StandardError.Of(() => files.Csv(logger => logger.LogMetrics(Metrics(("new", 1))))));
    }

    [Fact]
    public void LogMetrics_Prefix_StandsBeforeTheNames()
    {
        using var files = new LogFiles();
        using (var logger = new CsvLogger(files.Root, "", 0, prefix: "val"))
        {
            logger.LogMetrics(Metrics(("loss", 1)));
            logger.LogGroup("acc", Metrics(("top1", 2)));
        }

        Assert.Equal(["step,val-acc/top1,val-loss", "0,,1", "1,2,"], files.Lines0());
    }

    [Fact]
    public void LogMetrics_AfterTheEnd_GoesOnInTheSameFile()
    {
        using var files = new LogFiles();
        var lines = files.Csv(logger =>
        {
            logger.LogMetrics(Metrics(("a", 1)));
            logger.Finalize("success");
            logger.LogMetrics(Metrics(("a", 2)));
        });
        Assert.Equal(["a,step", "1,0", "2,1"], lines);
    }

    [Fact]
    public void LogHyperparameters_Nested_WritesFlatJson()
    {
        using var files = new LogFiles();
        using (var logger = new CsvLogger(files.Root, "", 0))
        {
            logger.LogHyperparameters(new Dictionary<string, object?> { ["lr"] = 0.5, ["net"] = new Dictionary<string, object> { ["depth"] = 3, ["act"] = "Relu" }, ["none"] = null });
            logger.LogHyperparameters(new Dictionary<string, object?> { ["flags"] = new[] { true, false }, ["big"] = double.PositiveInfinity });
        }

        using var json = System.Text.Json.JsonDocument.Parse(File.ReadAllText(files["version_0/hparams.json"]));
        Assert.Equal(
            "big=Infinity flags=[True, False] lr=0.5 net/act=Relu net/depth=3 none=null",
            string.Join(' ', json.RootElement.EnumerateObject().Select(property => $"{property.Name}={property.Value}")));
    }
}

file static class VersionZero
{
    public static string[] Lines0(this LogFiles files) => File.Exists(files["version_0/metrics.csv"]) ? files.Lines("version_0/metrics.csv") : [];
}
