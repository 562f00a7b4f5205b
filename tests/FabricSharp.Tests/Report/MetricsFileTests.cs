using FabricSharp.Cli.Report;
using FabricSharp.Loggers;
using FabricSharp.Tests.Tracing;

namespace FabricSharp.Tests.Report;

public sealed class MetricsFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Find_WhatCsvLoggerWrote_GivesTheCurves()
    {
        using (var logger = new CsvLogger(_folder.Path, "run", 0))
        {
            logger.LogMetrics(new Dictionary<string, double> { ["loss"] = 2.5, ["odd, \"name\""] = 1 }, 3);
            logger.LogMetrics(new Dictionary<string, double> { ["loss"] = double.NaN }, 4);
            logger.LogMetrics(new Dictionary<string, double> { ["loss"] = 0.5 }, 5);
        }

        var file = MetricsFile.Find(_folder.Path)!;
        Assert.Equal(["loss", "odd, \"name\""], file.Curves.Select(curve => curve.Name));
        Assert.Equal([(3, 2.5), (5, 0.5)], file.Curves[0].Points);
    }

    [Fact]
    public void Find_None_IsNull() => Assert.Null(MetricsFile.Find(_folder.Path));

    [Theory]
    [InlineData("", "no column 'step'")]
    [InlineData("a,b\n1,2\n", "no column 'step'")]
    [InlineData("loss,step\n1\n", "line 2: 1 cells")]
    [InlineData("loss,step\n1,x\n", "line 2: the step is no number")]
    [InlineData("loss,step\n=cmd,1\n", "value of 'loss' is no number")]
    public void Read_NoTableOfNumbers_SaysWhere(string content, string problem)
    {
        File.WriteAllText(_folder["metrics.csv"], content);
        Assert.Contains(problem, Assert.Throws<InvalidDataException>(() => MetricsFile.Read(_folder["metrics.csv"])).Message, StringComparison.Ordinal);
    }
}
