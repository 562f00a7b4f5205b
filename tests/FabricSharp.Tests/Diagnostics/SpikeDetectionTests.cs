using FabricSharp.Diagnostics;
using FabricSharp.Tests.Loggers;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Diagnostics;

public class SpikeDetectionTests
{
    [Theory]
    [InlineData("min", 10, 1, null, 2.0, "1 1.1 0.9 2.9 4.5", 4)] // 3.025 from the mean of 1.475
    [InlineData("min", 10, 1, null, 2.0, "1 1.1 0.9 -50 1", null)] // better is never a spike; the mean is about −12 then
    [InlineData("max", 10, 1, null, 2.0, "1 1 1 -1.5", 3)]
    [InlineData("max", 10, 1, null, 2.0, "1 1 1 50", null)]
    [InlineData("min", 10, 1, 5.0, 2.0, "1 1 1 4 6", null)] // far in relation, but not by 5
    [InlineData("min", 10, 1, 5.0, 2.0, "1 1 1 1 7", 4)]
    [InlineData("min", 10, 1, 1.0, null, "100 100 101.5", 2)]
    [InlineData("min", 10, 3, null, 2.0, "1 50 80 1000", 3)]
    [InlineData("min", 10, 4, null, 2.0, "1 50 80 1000", null)]
    [InlineData("min", 2, 1, null, 0.5, "10 10 11 11 16.4", null)] // 5.4 from the mean of the last two; from that of all it would be too far
    [InlineData("min", 2, 1, null, 0.5, "10 10 11 11 17", 4)]
    [InlineData("min", 10, 1, null, 2.0, "1 1 NaN", 2)]
    [InlineData("min", 10, 1, null, 2.0, "1 1 -Infinity", 2)]
    [InlineData("min", 10, 0, null, 2.0, "NaN", 0)]
    [InlineData("min", 10, 0, null, 2.0, "7 6", null)]
    public void IsSpike_OfSeries_IsFoundWhereItIs(string mode, int window, int warmup, double? atol, double? rtol, string series, int? expected)
    {
        using var files = new LogFiles();
        using var fabric = new Fabric(accelerator: "cpu");
        var detection = new SpikeDetection(mode, window, warmup, atol, rtol, files["skip.json"]);
        Assert.Equal(expected, First(fabric, detection, series));
        Assert.Equal(expected is { } at ? [.. new long[] { at - 1, at }.Where(n => n >= 0)] : [], detection.ExcludedBatches);
        Assert.Equal(expected is not null, File.Exists(files["skip.json"]));
    }

    [Fact]
    public void IsSpike_FiniteOnlyOff_PassesOverWhatIsNotFinite()
    {
        using var files = new LogFiles();
        using var fabric = new Fabric(accelerator: "cpu");
        var detection = new SpikeDetection(warmup: 0, excludeBatchesPath: files.Root, finiteOnly: false);
        Assert.Equal(4, First(fabric, detection, "1 NaN Infinity 1 4"));
    }

    [Fact]
    public void OnTrainBatchEnd_Spike_ThrowsWithTheBatchAndWritesTheFile()
    {
        using var files = new LogFiles();
        var detection = new SpikeDetection(excludeBatchesPath: files["runs/a"]);
        using var fabric = new Fabric(accelerator: "cpu", callbacks: [detection]);
        for (var batchIndex = 0L; batchIndex < 5; batchIndex++)
            fabric.Call("OnTrainBatchEnd", new { fabric, loss = tensor(1.0), batchIndex, batch = "unused" });
        var error = Assert.Throws<TrainingSpikeException>(() => fabric.Call("OnTrainBatchEnd", new { fabric, loss = tensor(9f), batchIndex = 5 }));
        Assert.Equal(5, error.BatchIndex);
        Assert.StartsWith("Training spike detected in batch 5.", error.Message, StringComparison.Ordinal);
        Assert.Equal([4, 5], System.Text.Json.JsonSerializer.Deserialize<long[]>(File.ReadAllText(files["runs/a/skip_batches.json"]))!);
    }

    [Fact]
    public void IsSpike_GoingOn_LeavesTheMeanAloneAndAddsToTheFileOfEarlierRuns()
    {
        using var files = new LogFiles();
        using var fabric = new Fabric(accelerator: "cpu");
        var path = files["skip.json"];
        File.WriteAllText(path, "[41, 42]");
        var detection = new SpikeDetection(excludeBatchesPath: path);
        Assert.True(detection.IsExcluded(41));
        Assert.False(detection.IsExcluded(43));
        foreach (var (loss, expected) in new[] { (1.0, false), (100, true), (100, true), (1, false), (2, false) })
            Assert.Equal(expected, detection.IsSpike(fabric, tensor(loss), detection.ExcludedBatches.Count + 41));
        Assert.Equal(detection.ExcludedBatches, new SpikeDetection(excludeBatchesPath: path).ExcludedBatches);
        Assert.Equal([41, 42, 43, 44], detection.ExcludedBatches);
    }

    [Fact]
    public void OnTrainBatchEnd_SpikeOnOneRank_AllRanksThrow()
    {
        using var files = new LogFiles();
        using var fabric = new Fabric(accelerator: "cpu", devices: 3, strategy: "ddp_notebook");
        var batches = new long[3];
        fabric.Launch(f =>
        {
            var detection = new SpikeDetection(excludeBatchesPath: files[$"rank{f.GlobalRank}"]);
            for (var batch = 0; batch < 5; batch++)
            {
                using var loss = tensor(batch == 3 && f.GlobalRank == 2 ? float.NaN : 1f);
                if (Record.Exception(() => detection.OnTrainBatchEnd(f, loss, batch)) is TrainingSpikeException spike)
                    batches[f.GlobalRank] = spike.BatchIndex;
            }
        });
        Assert.Equal([3, 3, 3], batches);
        Assert.Equal(["rank0/skip_batches.json"], files.All);
    }

    [Fact]
    public void SpikeDetection_ArgumentsOrFileThatMakeNoSense_AreRefused()
    {
        using var files = new LogFiles();
        Assert.Contains("\"min\"", Assert.Throws<ArgumentException>(() => new SpikeDetection(mode: "low")).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => new SpikeDetection(window: 0));
        File.WriteAllText(files["skip.json"], "41, 42");
        Assert.Contains("skip.json", Assert.Throws<InvalidDataException>(() => new SpikeDetection(excludeBatchesPath: files["skip.json"])).Message, StringComparison.Ordinal);
        using var fabric = new Fabric(accelerator: "cpu");
        Assert.Throws<ArgumentException>(() => new SpikeDetection(excludeBatchesPath: files.Root).IsSpike(fabric, ones(2), 0));
    }

    private static int? First(Fabric fabric, SpikeDetection detection, string series)
    {
        var losses = series.Split(' ').Select(text => double.Parse(text, System.Globalization.CultureInfo.InvariantCulture)).ToList();
        for (var batch = 0; batch < losses.Count; batch++)
        {
            using var loss = tensor(losses[batch]);
            if (detection.IsSpike(fabric, loss, batch))
                return batch;
        }

        return null;
    }
}
