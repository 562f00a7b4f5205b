namespace FabricSharp.MultiProcess.Tests.Collectives;

/// <summary>The façade's collectives between real processes.</summary>
public sealed class FabricCollectivesTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Collectives_BetweenProcesses_GiveTheSameOnEveryRank(int ranks)
    {
        var folder = Directory.CreateTempSubdirectory("fabric-first-");
        var result = await RunningProgram.RunWorkerAsync($"collectives ranks={ranks} file={Path.Combine(folder.FullName, "data")}");
        folder.Delete(recursive: true);
        var sum = ranks * (ranks + 1) / 2;
        foreach (var report in result.ReportsOf(ranks))
        {
            Assert.Equal([sum], report.GetProperty("sum").EnumerateArray().Select(value => (int)value.GetSingle()));
            Assert.Equal((double)sum / ranks, report.GetProperty("mean").GetDouble(), 12);
            Assert.Equal([(ranks - 1) / 2, -((ranks - 1) / 2)], report.GetProperty("integerMean").EnumerateArray().Select(value => value.GetInt32()));
            Assert.Equal(Enumerable.Range(0, ranks).SelectMany(rank => new[] { rank, 10 * rank }), report.GetProperty("gathered").EnumerateArray().Select(value => value.GetInt32()));
            Assert.Equal($"from rank {ranks - 1}", report.GetProperty("text").GetString());
            Assert.Equal(0.5, report.GetProperty("complex").GetProperty("x")[1].GetDouble());
            Assert.Equal($"({ranks - 1}, {double.PositiveInfinity.ToString(System.Globalization.CultureInfo.InvariantCulture)})", report.GetProperty("tuple").GetString());
            Assert.Equal([2, 3], report.GetProperty("unknownShape").EnumerateArray().Select(value => value.GetInt32()));
            Assert.Equal([0, 1, 2], report.GetProperty("collection").EnumerateArray().Select(value => value.GetInt32()));
            Assert.Equal((ranks - 1) / 2.0, report.GetProperty("metrics").GetProperty("loss").GetDouble(), 12);
            Assert.Equal(1, report.GetProperty("metrics").GetProperty("accuracy").GetDouble(), 12);
            Assert.Equal(Enumerable.Range(0, ranks).SelectMany(rank => new[] { rank, rank }), report.GetProperty("nested").EnumerateArray().Select(value => value.GetInt32()));
            Assert.True(report.GetProperty("sawRankZerosFile").GetBoolean());
            Assert.Equal([1, 1, 1, 1, 1], report.GetProperty("tensor").EnumerateArray().Select(value => value.GetInt32()));
        }
    }
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Conformance_BetweenProcesses_EveryCaseHolds(int ranks)
    {
        var result = await RunningProgram.RunWorkerAsync($"conformance ranks={ranks}");
        Assert.All(result.ReportsOf(ranks), report => Assert.InRange(report.GetProperty("cases").GetInt32(), 10, 1000));
    }
}
