using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.DataParallel;

/// <summary>100 steps on real ranks against recorded runs of PyTorch's DistributedDataParallel; see References/README.md for how those were made.</summary>
public sealed class RecordedReferenceTests
{
    private const double Tolerance = 1e-6;

    [Theory]
    [InlineData("mlp", 2, "ddp")]
    [InlineData("mlp", 4, "ddp_find_unused_parameters_true")]
    [InlineData("gpt", 2, "ddp")]
    [InlineData("gpt", 4, "ddp_find_unused_parameters_true")]
    [InlineData("deep", 2, "ddp")]
    [InlineData("deep", 4, "ddp_find_unused_parameters_true")]
    [InlineData("branchy", 2, "ddp_find_unused_parameters_true")]
    [InlineData("branchy", 4, "ddp_find_unused_parameters_true")]
    public async Task Train_HundredSteps_GivesTheLossesAndParametersOfPyTorch(string model, int ranks, string strategy)
    {
        using var recorded = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "DataParallel", "References", $"{model}-{ranks}.json"), TestContext.Current.CancellationToken));
        var result = await RunningProgram.RunWorkerAsync($"reference model={model} ranks={ranks} strategy={strategy}", TimeSpan.FromSeconds(120));
        foreach (var report in result.ReportsOf(ranks))
        {
            var losses = Numbers(report.GetProperty("losses"));
            Assert.Equal(100, losses.Length);
            Assert.All(Numbers(recorded.RootElement.GetProperty("losses")).Zip(losses), pair => AssertClose(pair.First, pair.Second, pair.First));
            var parameters = recorded.RootElement.GetProperty("parameters").EnumerateObject().ToList();
            Assert.NotEmpty(parameters);
            Assert.All(parameters, parameter =>
            {
                var (expected, found) = (Numbers(parameter.Value), Numbers(report.GetProperty("parameters").GetProperty(parameter.Name)));
                AssertClose(expected[0], found[0], expected[0]);
                AssertClose(expected[1], found[1], 10 * expected[0]); // a sum may cancel: the norm is its measure
            });
        }
    }

    private static double[] Numbers(JsonElement array) => [.. array.EnumerateArray().Select(number => number.GetDouble())];

    private static void AssertClose(double expected, double found, double measure) =>
        Assert.True(Math.Abs(expected - found) <= Tolerance * Math.Abs(measure), $"{expected:R} recorded, {found:R} found");
}
