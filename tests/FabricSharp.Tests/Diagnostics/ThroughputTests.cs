using FabricSharp.Diagnostics;
using FabricSharp.Tests.Loggers;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Diagnostics;

public class ThroughputTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(10)]
    public void Compute_WindowFull_GivesTheRatesOfHandCalculation(int window)
    {
        var throughput = new Throughput(availableFlops: 1e4, windowSize: window);
        var (time, batches, samples, lengths) = (0.0, 0L, 0L, 0L);
        var steps = new List<(double Time, long Batches, long Samples, long Lengths, double Flops)>();
        for (var step = 1; step <= 2 * window; step++)
        {
            (time, batches, samples, lengths) = (time + 0.25 * step, batches + 1, samples + 4 + step, lengths + 100 * step);
            steps.Add((time, batches, samples, lengths, 1000 * step));
            throughput.Update(TimeSpan.FromSeconds(time), batches, samples, lengths, 1000 * step);
            var metrics = throughput.Compute();
            Assert.Equal((time, batches, samples, lengths), (metrics["time"], metrics["batches"], metrics["samples"], metrics["lengths"]));
            Assert.Equal(step < window ? 4 : 9, metrics.Count);
            if (step < window)
                continue;
            var (first, elapsed) = (steps[^window], time - steps[^window].Time);
            Assert.Equal((batches - first.Batches) / elapsed, metrics["device/batches_per_sec"], 9);
            Assert.Equal((samples - first.Samples) / elapsed, metrics["device/samples_per_sec"], 9);
            Assert.Equal((lengths - first.Lengths) / elapsed, metrics["device/items_per_sec"], 9);
            var flops = steps.TakeLast(window - 1).Sum(s => s.Flops) / elapsed;
            Assert.Equal(flops, metrics["device/flops_per_sec"], 9);
            Assert.Equal(flops / 1e4, metrics["device/mfu"], 9);
        }
    }

    [Fact]
    public void Compute_SeveralRanks_GivesTheWorldsRatesToo()
    {
        var throughput = new Throughput(availableFlops: 1000, worldSize: 4, windowSize: 2, separator: "|", sparseFactor: 2);
        throughput.Update(TimeSpan.FromSeconds(1), 1, 8, 80, 500);
        throughput.Update(TimeSpan.FromSeconds(3), 3, 24, 240, 500);
        var metrics = throughput.Compute();
        Assert.Equal(
            "batches=3 batches_per_sec=4 device|batches_per_sec=1 device|flops_per_sec=250 device|items_per_sec=80 device|mfu=0.125 device|samples_per_sec=8 "
            + "flops_per_sec=1000 items_per_sec=320 lengths=240 samples=24 samples_per_sec=32 time=3",
            string.Join(' ', metrics.OrderBy(metric => metric.Key, StringComparer.Ordinal).Select(metric => FormattableString.Invariant($"{metric.Key}={metric.Value}"))));
    }

    [Theory]
    [InlineData(1, 2, 20, 200, "time", "Expected the value to increase, last: 1, current: 1")]
    [InlineData(2, 1, 20, 200, "batches", "Expected the value to increase, last: 1, current: 1")]
    [InlineData(2, 2, 10, 200, "samples", "Expected the value to increase, last: 10, current: 10")]
    [InlineData(2, 2, 20, 90, "lengths", "Expected the value to increase, last: 100, current: 90")]
    [InlineData(2, 21, 20, 200, "samples", "Expected samples (20) to be greater or equal than batches (21)")]
    [InlineData(2, 2, 20, 19, "lengths", "Expected lengths (19) to be greater or equal than samples (20)")]
    [InlineData(2, 2, 20, null, "lengths", "given before, not now")]
    public void Update_TotalThatCannotBe_IsAnErrorAndChangesNothing(double time, long batches, long samples, int? lengths, string name, string message)
    {
        var throughput = new Throughput(windowSize: 2);
        throughput.Update(TimeSpan.FromSeconds(1), 1, 10, 100);
        var error = Assert.Throws<ArgumentException>(() => throughput.Update(TimeSpan.FromSeconds(time), batches, samples, lengths));
        Assert.Equal(name, error.ParamName);
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
        Assert.Equal(1, throughput.Compute()["time"]);
        throughput.Update(TimeSpan.FromSeconds(2), 2, 20, 200);
        Assert.Equal(10, throughput.Compute()["device/samples_per_sec"]);
    }

    [Fact]
    public void Reset_Always_BeginsAnew()
    {
        var throughput = new Throughput(windowSize: 2);
        throughput.Update(TimeSpan.FromSeconds(9), 9, 9);
        throughput.Reset();
        Assert.Empty(throughput.Compute());
        throughput.Update(TimeSpan.FromSeconds(1), 1, 1, 1);
        Assert.Equal(4, throughput.Compute().Count);
    }

    [Fact]
    public void ComputeAndLog_StepsNotGiven_CountsFromZero()
    {
        var logger = new RecordingLogger();
        using var fabric = new Fabric(accelerator: "cpu", loggers: [logger]);
        var monitor = new ThroughputMonitor(fabric, windowSize: 2);
        monitor.ComputeAndLog();
        monitor.Update(TimeSpan.FromSeconds(1), 1, 2);
        monitor.ComputeAndLog();
        monitor.Update(TimeSpan.FromSeconds(2), 2, 4);
        monitor.ComputeAndLog(10);
        monitor.Update(TimeSpan.FromSeconds(3), 3, 6);
        monitor.ComputeAndLog();
        Assert.Equal(
            [
                "1: time=1 batches=1 samples=2", "10: time=2 batches=2 samples=4 device/batches_per_sec=1 device/samples_per_sec=2",
                "11: time=3 batches=3 samples=6 device/batches_per_sec=1 device/samples_per_sec=2",
            ],
            logger.Calls);
    }

    [Fact]
    public void ComputeAndLog_SeveralRanks_MeasuresOnRankZeroForAll()
    {
        var logger = new RecordingLogger();
        using var fabric = new Fabric(accelerator: "cpu", devices: 2, strategy: "ddp_notebook", loggers: [logger]);
        var counts = new int[2];
        fabric.Launch(f =>
        {
            var monitor = new ThroughputMonitor(f, windowSize: 2);
            monitor.Update(TimeSpan.FromSeconds(1), 1, 1);
            monitor.Update(TimeSpan.FromSeconds(2), 2, 2);
            counts[f.GlobalRank] = monitor.ComputeAndLog().Count;
        });
        Assert.Equal([7, 0], counts);
        Assert.Contains("samples_per_sec=2", logger.Calls[0], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("NVIDIA H100 80GB HBM3", ScalarType.BFloat16, false, 9.895e14)]
    [InlineData("NVIDIA H100 PCIe", ScalarType.Float16, false, 7.56e14)]
    [InlineData("NVIDIA H100 80GB HBM3", ScalarType.Float32, true, 4.945e14)]
    [InlineData("NVIDIA A100-SXM4-40GB", ScalarType.Float32, false, 1.95e13)]
    [InlineData("NVIDIA L4", ScalarType.BFloat16, false, 1.21e14)]
    [InlineData("NVIDIA L40", ScalarType.BFloat16, false, 1.81e14)]
    [InlineData("NVIDIA L40S", ScalarType.BFloat16, false, null)]
    [InlineData("Tesla T4", ScalarType.Float16, false, 6.5e13)]
    [InlineData("Tesla T4", ScalarType.BFloat16, false, null)]
    [InlineData("Tesla V100-SXM2-16GB", ScalarType.Float16, false, 1.25e14)]
    public void Find_OfDeviceNames_GivesTheDataSheetsFigure(string name, ScalarType type, bool tf32, double? expected) =>
        Assert.Equal(expected, PeakFlops.Find(name, type, tf32));

    [Fact]
    public void Read_DriversFolder_GivesTheNameWhereAllAreTheSame()
    {
        using var files = new LogFiles();
        Assert.Null(GpuName.Read(files["none"]));
        foreach (var (gpu, model) in new[] { ("0", "NVIDIA L4"), ("1", "NVIDIA L4"), ("2", "Tesla T4") })
        {
            Directory.CreateDirectory(files[gpu]);
            File.WriteAllText(files[gpu + "/information"], $"Model: \t\t {model}\nIRQ:   \t\t 154\n");
            Assert.Equal(gpu == "2" ? null : "NVIDIA L4", GpuName.Read(files.Root));
        }
    }
}
