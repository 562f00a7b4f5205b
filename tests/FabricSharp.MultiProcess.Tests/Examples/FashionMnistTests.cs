using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.Examples;

/// <summary>The first example, as its user runs it.</summary>
public sealed class FashionMnistTests
{
    private const string Data = "/usr/share/datasets/fashion-mnist";
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(3);

    [Theory]
    [InlineData("2")]
    [InlineData("3")]
    public async Task Run_WithTheFlag_TrainsAndEndsWithOneLineOfJson(string devices)
    {
        RequireData();
        var result = await RunAsync("--devices", devices, "--max-steps", "60", "--json");
        Assert.True(result.ExitCode == 0, result.ToString());
        var json = JsonDocument.Parse(result.Output.TrimEnd('\n').Split('\n')[^1]).RootElement;
        Assert.Equal("ddp_find_unused_parameters_true", json.GetProperty("strategy").GetString());
        Assert.Equal(int.Parse(devices, System.Globalization.CultureInfo.InvariantCulture), json.GetProperty("world_size").GetInt32());
        Assert.Equal(60, json.GetProperty("steps").GetInt32());
        Assert.InRange(json.GetProperty("samples_per_second").GetDouble(), 1, 1e9);
        Assert.InRange(json.GetProperty("train_loss").GetDouble(), 0.1, 2);
        Assert.InRange(json.GetProperty("test_accuracy").GetDouble(), 0.5, 1);
        var unused = json.GetProperty("unused_parameters").EnumerateArray().Select(name => name.GetString()!).ToList();
        Assert.Equal(16, unused.Count);
        Assert.All(unused, name => Assert.StartsWith("branches.", name, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Run_TwiceWithTheSameSeed_GivesTheSameLoss()
    {
        RequireData();
        var losses = new List<string>();
        for (var i = 0; i < 2; i++)
            losses.Add(JsonDocument.Parse((await RunAsync("--max-steps", "10", "--json")).Output.TrimEnd('\n').Split('\n')[^1]).RootElement.GetProperty("train_loss").GetRawText());
        Assert.Equal(losses[0], losses[1]);
    }

    [Fact]
    public async Task Run_WithoutTheFlag_FailsWithNamesAndRemedies()
    {
        RequireData();
        var result = await RunAsync("--strategy", "ddp");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("Expected to have finished reduction in the prior iteration before starting a new one.", result.Error, StringComparison.Ordinal);
        Assert.Matches(@"\d+: branches\.\d\.0\.weight, no gradient on", result.Error);
        Assert.Contains("strategy: \"ddp_find_unused_parameters_true\"", result.Error, StringComparison.Ordinal);
        Assert.Contains("new DDPStrategy(findUnusedParameters: true)", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--strategy", "dpp", "Did you mean 'ddp'?")]
    [InlineData("--devices", "0", "devices=0")]
    [InlineData("--devices", "many", "devices=\"many\"")]
    [InlineData("--batch-size", "0", "--batch-size 0 must be at least 1.")]
    public async Task Run_WrongArgument_SaysWhatIsAccepted(string option, string value, string expected)
    {
        RequireData();
        var result = await RunAsync(option, value);
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Run_DataMissing_ListsTheThreeWays()
    {
        var result = await RunAsync("--data", Path.Combine(Path.GetTempPath(), "no-such-folder"));
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("--data FOLDER", result.Error, StringComparison.Ordinal);
        Assert.Contains("apt-get install dataset-fashion-mnist", result.Error, StringComparison.Ordinal);
        Assert.Contains("TorchVision's download", result.Error, StringComparison.Ordinal);
    }

    private static void RequireData() => Assert.SkipUnless(Directory.Exists(Data), $"{Data} is missing: install Debian's package dataset-fashion-mnist.");

    private static async Task<ProgramResult> RunAsync(params string[] arguments)
    {
        using var program = new RunningProgram(Programs.FashionMnist, arguments);
        return await program.EndAsync(Limit);
    }
}
