using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace FabricSharp.MultiProcess.Tests.Examples;

/// <summary>The examples by feature, with two ranks and little data: each prints what its feature promises.</summary>
public sealed class ByFeatureTests : IDisposable
{
    private const string Data = "/usr/share/datasets/fashion-mnist";
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(2);

    private readonly string _output = Directory.CreateTempSubdirectory("fabricsharp-feature-").FullName;

    public void Dispose() => Directory.Delete(_output, recursive: true);

    [Fact]
    public async Task GradientAccumulation_FourBatchesAStep_Learns()
    {
        var output = await RunAsync("gradient-accumulation", "--images", "6000", "--epochs", "2");
        var losses = Numbers(output, @"epoch \d: loss ([\d.]+)");
        Assert.Equal(2, losses.Count);
        Assert.True(losses[1] < losses[0] * 0.8, output);
        Assert.Contains("94 batches on each rank, 23 steps", output, StringComparison.Ordinal); // 2 × 47, in fours
        Assert.InRange(Number(output, @"test accuracy ([\d.]+) %"), 55, 100);
    }

    [Fact]
    public async Task CallbacksAndLogging_OneEpoch_WritesEveryStepOnce()
    {
        var output = await RunAsync("callbacks-and-logging", "--images", "3200", "--epochs", "1");
        var csv = File.ReadAllLines(Assert.Single(Directory.GetFiles(_output, "metrics.csv", SearchOption.AllDirectories)));
        Assert.Equal("epoch,step,test/accuracy,train/loss", csv[0]);
        Assert.Equal(1 + 25 + 1, csv.Length);
        Assert.Single(Directory.GetFiles(_output, "events.out.tfevents.*", SearchOption.AllDirectories));
        var losses = csv[1..26].Select(row => double.Parse(row.Split(',')[3], CultureInfo.InvariantCulture)).ToList();
        Assert.Equal(Number(output, @"lowest loss: ([\d.]+)"), losses.Min(), 3);
        Assert.Equal(losses.IndexOf(losses.Min()), Number(output, @"lowest loss: [\d.]+, step (\d+)"));
        Assert.InRange(Number(output, @"slowest step: ([\d.]+) ms"), 0.1, 60_000);
    }

    [Fact]
    public async Task EarlyStopping_NothingGained_EndsOnEveryRankInTheSameEpoch()
    {
        var output = await RunAsync("early-stopping", "--images", "640", "--epochs", "40");
        var ends = Numbers(output, @"rank \d ended after epoch (\d+)");
        Assert.Equal(2, ends.Count);
        Assert.Equal(ends[0], ends[1]);
        Assert.InRange(ends[0], 2, 39);
        Assert.Equal(ends[0] - 2, Number(output, @"best: [\d.]+ % after epoch (\d+)"));
        Assert.Equal(Number(output, @"best: ([\d.]+) %"), Numbers(output, @"validation accuracy ([\d.]+) %").Max());
    }

    [Fact]
    public async Task KFold_FiveFolds_GivesTheirMean()
    {
        var output = await RunAsync("k-fold", "--images", "3000");
        var folds = Numbers(output, @"fold \d: 2400 images to train on, accuracy of the other 600: ([\d.]+) %");
        Assert.Equal(5, folds.Count);
        Assert.All(folds, accuracy => Assert.InRange(accuracy, 40, 100));
        Assert.Equal(folds.Average(), Number(output, @"^accuracy ([\d.]+) %"), 0.06);
    }

    [Fact]
    public async Task Inference_ThreeRanks_PredictsWhatOneDoes()
    {
        var three = await RunAsync("inference", "--devices", "3"); // 10,000 do not divide by 3
        var one = await RunAsync("inference", "--devices", "1");
        Assert.Equal([3334, 3334, 3334], Numbers(three, @"rank \d: (\d+) predictions"));
        Assert.Equal([10_000], Numbers(one, @"rank \d: (\d+) predictions"));
        var right = Number(one, @"10000 predictions, (\d+) right");
        Assert.InRange(right, 6_500, 7_500);
        Assert.Equal(right, Number(three, @"10000 predictions, (\d+) right"));
    }

    [Fact]
    public async Task Gan_TwoModels_DrawsWhatLooksLikeTheRealImages()
    {
        var output = await RunAsync("gan", "--epochs", "4", "--images", "9000");
        Assert.InRange(Number(output, @"before: .* correlate by ([\d.]+)"), 0, 0.2);
        Assert.InRange(Number(output, @"after: .* correlate by ([\d.]+)"), 0.4, 1);
        var (real, drawn) = (Numbers(output, @"judged real with (\d+)"), Numbers(output, @"drawn ones with (\d+)"));
        Assert.Equal(4, real.Count);
        Assert.All(real.Zip(drawn), pair => Assert.True(pair.First > pair.Second, output));
    }

    [Fact]
    public async Task ReinforcementLearning_UnevenSteps_HoldsThePoleLonger()
    {
        var output = await RunAsync("reinforcement-learning");
        var episodes = Numbers(output, @"ranks, (\d+) per episode");
        Assert.True(episodes[^1] > 3 * episodes[0], output);
        Assert.NotEqual(Number(output, @"update 1: (\d+) and"), Number(output, @"update 1: \d+ and (\d+)"));
    }

    [Fact]
    public async Task CustomStrategy_ByName_IsTheOneThatWasRegistered()
    {
        var output = await RunAsync("custom-strategy", "--images", "3200");
        Assert.Contains("ddp_impatient: buckets of 1 MiB, waits of at most 30 s, unused parameters allowed", output, StringComparison.Ordinal);
        Assert.Matches("known names: .*ddp_impatient", output);
        Assert.InRange(Number(output, @"test accuracy ([\d.]+) %"), 45, 100);
    }

    [Fact]
    public async Task CustomLogger_EachStep_IsALineOfJson()
    {
        await RunAsync("custom-logger", "--images", "3200");
        var lines = File.ReadAllLines(Path.Combine(_output, "metrics.jsonl")).Select(line => JsonDocument.Parse(line).RootElement).ToList();
        Assert.Equal(Enumerable.Range(0, 26), lines.Select(line => line.GetProperty("step").GetInt32()));
        double Loss(int i) => lines[i].GetProperty("metrics").GetProperty("loss").GetDouble();
        Assert.True(Loss(24) < Loss(0));
        Assert.InRange(lines[25].GetProperty("metrics").GetProperty("accuracy").GetDouble(), 0.45, 1);
    }

    [Fact]
    public async Task MixedPrecision_BesideFloat32_IsAsAccurateThoughNotEqual()
    {
        var full = await RunAsync("mixed-precision", "--images", "4800", "--epochs", "1", "--precision", "32-true");
        var mixed = await RunAsync("mixed-precision", "--images", "4800", "--epochs", "1", "--precision", "bf16-mixed");
        Assert.Matches(@"^32-true: [\d.]+ s .* parameters Float32\n$", full);
        Assert.Matches(@"^bf16-mixed: [\d.]+ s .* parameters Float32\n$", mixed);
        var (fullAccuracy, mixedAccuracy) = (Number(full, @"test accuracy ([\d.]+) %"), Number(mixed, @"test accuracy ([\d.]+) %"));
        Assert.InRange(fullAccuracy, 50, 100);
        Assert.Equal(fullAccuracy, mixedAccuracy, 5.0);
        Assert.NotEqual(Number(full, @"loss ([\d.]+)"), Number(mixed, @"loss ([\d.]+)")); // else nothing was computed in bfloat16
    }

    [Fact]
    public async Task CheckpointAndResume_InTwoHalves_EndsAsInOneGo()
    {
        var whole = await RunAsync("checkpoint-and-resume", "--images", "1600", "--epochs", "2", "--output", Path.Combine(_output, "whole"));
        await RunAsync("checkpoint-and-resume", "--images", "1600", "--epochs", "1");
        var resumed = await RunAsync("checkpoint-and-resume", "--images", "1600", "--epochs", "2");
        Assert.Contains("resumed after 1 epochs", resumed, StringComparison.Ordinal);
        Assert.Equal(LastLine(whole), LastLine(resumed));
        Assert.StartsWith("2 epochs, loss 0.", LastLine(whole), StringComparison.Ordinal);
    }

    [Fact]
    public async Task MixtureOfExperts_WithTheFlag_LearnsAndNamesIdleExperts()
    {
        var output = await RunAsync("mixture-of-experts", "--images", "6400");
        Assert.InRange(Number(output, @"test accuracy ([\d.]+) %"), 55, 100);
        Assert.Contains("unused in 200 passes", output, StringComparison.Ordinal);
        Assert.Matches(@"(?m)^experts\.\d\.0\.weight ", output);
        Assert.DoesNotMatch("(?m)^(trunk|router)", output);
    }

    private static string LastLine(string output) => output.TrimEnd('\n').Split('\n')[^1];

    private static double Number(string output, string pattern) => Assert.Single(Numbers(output, pattern));

    private static List<double> Numbers(string output, string pattern) =>
        [.. Regex.Matches(output, pattern, RegexOptions.Multiline).Select(match => double.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture))];

    private async Task<string> RunAsync(string feature, params string[] options)
    {
        Assert.SkipUnless(feature == "reinforcement-learning" || Directory.Exists(Data), $"{Data} is missing: install Debian's package dataset-fashion-mnist.");
        string[] output = options.Contains("--output") ? [] : ["--output", _output];
        using var program = new RunningProgram(Programs.ByFeature, [feature, .. options, .. output]);
        var result = await program.EndAsync(Limit);
        Assert.True(result.ExitCode == 0, result.ToString());
        return result.Output;
    }
}
