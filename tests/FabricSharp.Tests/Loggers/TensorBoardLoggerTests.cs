using FabricSharp.Loggers;
using static FabricSharp.Tests.Loggers.LogFiles;

namespace FabricSharp.Tests.Loggers;

public class TensorBoardLoggerTests
{
    private static readonly DateTimeOffset Start = new(2026, 1, 2, 3, 4, 5, 678, TimeSpan.Zero);
    private const double StartSeconds = 1767323045.678;

    [Fact]
    public void MaskedCrc_OfKnownBytes_IsTheKnownOne()
    {
        var bytes = "123456789"u8; // CRC-32C 0xE3069283 by RFC 3720
        Assert.Equal(unchecked(((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8), EventFileReader.MaskedCrc(bytes));
        Assert.Equal(0xE3069283, FabricSharp.Loggers.TensorBoard.Crc32C.Compute(bytes));
    }

    [Fact]
    public void LogMetrics_Scalars_CanBeReadBackWithTimesAndSteps()
    {
        using var files = new LogFiles();
        var time = new ManualTime(Start);
        using (var logger = Make(files, time))
        {
            logger.LogMetrics(Metrics(("loss", 0.5), ("Präzision", float.MaxValue)), 3);
            time.Advance(TimeSpan.FromMilliseconds(250));
            logger.LogMetrics(Metrics(("loss", double.NaN)), -1);
            logger.LogMetrics(Metrics(("loss", 1e300)), long.MaxValue);
        }

        var events = EventFileReader.Read(files[files.All.Single()]);
        Assert.Equal("brain.Event:2", events[0].FileVersion);
        Assert.Equal([("loss", 3L, 0.5f), ("Präzision", 3L, float.MaxValue), ("loss", -1L, float.NaN), ("loss", long.MaxValue, float.PositiveInfinity)],
            events.Skip(1).Select(e => (e.Tag, e.Step, e.Scalar)));
        Assert.Equal([StartSeconds, StartSeconds, StartSeconds, StartSeconds + 0.25, StartSeconds + 0.25], events.Select(e => Math.Round(e.WallTime, 6)));
    }

    [Fact]
    public void LogMetrics_Events_AreWhatTensorBoardsOwnDefinitionsRead()
    {
        using var files = new LogFiles();
        using (var logger = Make(files))
        {
            logger.LogMetrics(Metrics(("loss", 0.5)), -3);
            logger.LogHyperparameters(new Dictionary<string, object?> { ["lr"] = 1 });
        }

        var events = EventFileReader.Records(files[files.All.Single()]).Select(Tensorboard.Event.Parser.ParseFrom).ToList(); // generated from TensorBoard's .proto files
        Assert.Equal("brain.Event:2", events[0].FileVersion);
        Assert.Equal(("loss", 0.5f, -3L), (events[1].Summary.Value[0].Tag, events[1].Summary.Value[0].SimpleValue, events[1].Step));
        Assert.Equal(["hparams", "hparams", "hparams"], events.Skip(3).Select(e => e.Summary.Value[0].Metadata.PluginData.PluginName));
    }

    [Fact]
    public void LogMetrics_LengthsOfMessages_AroundVarintBordersCanBeRead()
    {
        using var files = new LogFiles();
        var names = Enumerable.Range(80, 80).Append(20_000).Select(length => new string('n', length)).ToList();
        using (var logger = Make(files))
            names.ForEach(name => logger.LogMetrics(Metrics((name, 1))));
        Assert.Equal(names, EventFileReader.Read(files[files.All.Single()]).Skip(1).Select(e => e.Tag));
    }

    [Fact]
    public void LogMetrics_StepsNotGiven_Counts()
    {
        using var files = new LogFiles();
        using (var logger = Make(files))
            for (var i = 0; i < 3; i++)
                logger.LogMetrics(Metrics(("a", i), ("b", i)));
        Assert.Equal([0, 0, 1, 1, 2, 2], EventFileReader.Read(files[files.All.Single()]).Skip(1).Select(e => e.Step));
    }

    [Fact]
    public void LogMetrics_TimeGoesBy_IsInTheFileAfterTheInterval()
    {
        using var files = new LogFiles();
        var time = new ManualTime(Start);
        using var logger = Make(files, time);
        logger.LogMetrics(Metrics(("a", 1)));
        Assert.Empty(EventFileReader.Read(files[files.All.Single()]));
        time.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal(2, EventFileReader.Read(files[files.All.Single()]).Count);
        logger.LogMetrics(Metrics(("a", 2)));
        logger.Save();
        Assert.Equal(3, EventFileReader.Read(files[files.All.Single()]).Count);
    }

    [Fact]
    public void LogMetrics_ManyEvents_AreNotKeptInMemory()
    {
        using var files = new LogFiles();
        using var logger = Make(files);
        for (var i = 0; i < 2000; i++)
            logger.LogMetrics(Metrics(("a", i)));
        Assert.InRange(EventFileReader.Read(files[files.All.Single()]).Count, 1000, 1999);
    }

    [Fact]
    public void LogGroup_Always_WritesACurveForEachKeyInAFolderOfItsOwn()
    {
        using var files = new LogFiles();
        using (var logger = Make(files, prefix: "p"))
            logger.LogGroup("loss/all", Metrics(("train", 1), ("val", 2)), 5);
        Assert.Equal(["version_0/p-loss_all_train", "version_0/p-loss_all_val"], files.All.Select(Path.GetDirectoryName));
        var events = files.All.Select(file => EventFileReader.Read(files[file])[1]).ToList();
        Assert.Equal([("p-loss/all", 5L, 1f), ("p-loss/all", 5L, 2f)], events.Select(e => (e.Tag, e.Step, e.Scalar)));
    }

    [Fact]
    public void LogHyperparameters_NoMetrics_WritesThePlaceholderAndThePluginsData()
    {
        using var files = new LogFiles();
        var logger = Make(files);
        logger.LogHyperparameters(new Dictionary<string, object?>
        {
            ["lr"] = 0.25, ["batch"] = 64, ["bias"] = true, ["net"] = new Dictionary<string, object> { ["act"] = "relu" }, ["dims"] = new[] { 1, 2 }, ["none"] = null,
        });
        logger.Finalize("failed");

        var events = EventFileReader.Read(files[files.All.Single()]);
        Assert.Equal(("hp_metric", -1f, 0L), (events[1].Tag, events[1].Scalar, events[1].Step));
        Assert.Equal(["_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"], events.Skip(2).Select(e => e.Tag));
        var experiment = events[2].PluginContent("hparams").Sub(2);
        Assert.Equal(["lr:3", "batch:3", "bias:2", "net/act:1", "dims:1", "none:1"], experiment.Subs(4).Select(info => $"{info.Text(1)}:{info.Integer(4)}"));
        Assert.Equal(["hp_metric"], experiment.Subs(5).Select(info => info.Sub(1).Text(2)));
        var values = events[3].PluginContent("hparams").Sub(3).Subs(1).ToDictionary(entry => entry.Text(1), entry => entry.Sub(2));
        Assert.Equal((0.25, 64.0, 1L), (values["lr"].Double(2), values["batch"].Double(2), values["bias"].Integer(4)));
        Assert.Equal(("relu", "[1, 2]", "null"), (values["net/act"].Text(3), values["dims"].Text(3), values["none"].Text(3)));
        Assert.Equal(2, events[4].PluginContent("hparams").Sub(4).Integer(1));
    }

    [Fact]
    public void LogHyperparameters_Metrics_AreLoggedAndNamed()
    {
        using var files = new LogFiles();
        using (var logger = Make(files))
            logger.LogHyperparameters(new Dictionary<string, object?> { ["lr"] = 1 }, Metrics(("acc", 0.5)));
        var events = EventFileReader.Read(files[files.All.Single()]);
        Assert.Equal(("acc", 0.5f), (events[1].Tag, events[1].Scalar));
        Assert.Equal(["acc"], events[2].PluginContent("hparams").Sub(2).Subs(5).Select(info => info.Sub(1).Text(2)));
        Assert.Equal(1, events[^1].PluginContent("hparams").Sub(4).Integer(1));
    }

    [Fact]
    public void LogHyperparameters_PlaceholderDisabled_WritesNoScalar()
    {
        using var files = new LogFiles();
        using (var logger = new TensorBoardLogger(files.Root, defaultHpMetric: false))
            logger.LogHyperparameters(new Dictionary<string, object?> { ["lr"] = 1 });
        Assert.DoesNotContain(EventFileReader.Read(files[files.All.Single()]), e => e.IsScalar);
    }

    [Fact]
    public void LogDirectory_VariablesHomeAndSubFolder_AreExpanded()
    {
        using var files = new LogFiles();
        Environment.SetEnvironmentVariable("FABRIC_TEST_LOGS", files.Root);
        using var logger = new TensorBoardLogger("$FABRIC_TEST_LOGS/${FABRIC_TEST_LOGS}", "exp", "v", subDirectory: "train");
        Assert.Equal($"{files.Root}/{files.Root}/exp/v/train", logger.LogDirectory);
        using var home = new TensorBoardLogger("~/logs/$FABRIC_TEST_NO_SUCH");
        Assert.Equal(Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), "logs/$FABRIC_TEST_NO_SUCH"), home.RootDirectory);
    }

    [Fact]
    public void Version_SecondRun_IsTheNextNumber()
    {
        using var files = new LogFiles();
        for (var run = 0; run < 2; run++)
            using (var logger = new TensorBoardLogger(files.Root, "exp"))
                logger.LogMetrics(Metrics(("a", run)));
        Assert.Equal(["exp/version_0", "exp/version_1"], files.All.Select(Path.GetDirectoryName));
        Assert.All(files.All, file => Assert.StartsWith("events.out.tfevents.", Path.GetFileName(file)));
    }

    [Fact]
    public void LogMetrics_AfterTheEnd_OpensAFurtherFile()
    {
        using var files = new LogFiles();
        using (var logger = Make(files))
        {
            logger.LogMetrics(Metrics(("a", 1)));
            logger.Finalize("success");
            logger.LogMetrics(Metrics(("a", 2)));
        }

        Assert.Equal([1f, 2f], files.All.SelectMany(file => EventFileReader.Read(files[file])).Where(e => e.IsScalar).Select(e => e.Scalar).Order());
    }

    private static TensorBoardLogger Make(LogFiles files, TimeProvider? time = null, string prefix = "") =>
        new(files.Root, "", null, true, prefix, null, null, time ?? new ManualTime(Start));
}
