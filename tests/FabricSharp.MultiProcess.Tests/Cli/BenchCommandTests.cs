using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.Cli;

/// <summary><c>fabric bench</c> as its user sees it.</summary>
public sealed class BenchCommandTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task AllReduce_Json_GivesOneCheckedRowPerSizeTypeAndOperation()
    {
        var result = await RunAsync(Programs.Worker, "--ranks", "2", "--min-bytes", "64", "--max-bytes", "4K", "--factor", "8", "--iterations", "3", "--dtype", "float32,bfloat16", "--op", "sum,max", "--json");
        Assert.True(result.ExitCode == 0, result.ToString());
        var rows = result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement).ToList();
        string[] kinds = ["float32 sum", "float32 max", "bfloat16 sum", "bfloat16 max"];
        Assert.Equal(kinds.SelectMany(kind => new[] { $"64 {kind}", $"512 {kind}", $"4096 {kind}" }), rows.Select(row => $"{row.GetProperty("size")} {row.GetProperty("type")} {row.GetProperty("redop")}"));
        Assert.All(rows, row =>
        {
            Assert.Equal(("shm", 2, 0L), (row.GetProperty("backend").GetString(), row.GetProperty("ranks").GetInt32(), row.GetProperty("wrong").GetInt64()));
            Assert.Equal(row.GetProperty("algbw_gbps").GetDouble(), row.GetProperty("busbw_gbps").GetDouble(), 3); // 2 (n - 1) / n is 1
            Assert.True(row.GetProperty("time_us").GetDouble() > 0 && row.GetProperty("memcpy_gbps").GetDouble() > 0);
        });
    }

    [Fact]
    public async Task AllReduce_ThreeRanks_ShowsTheFamiliarColumns()
    {
        var result = await RunAsync(Programs.Worker, "--ranks", "3", "--min-bytes", "1K", "--max-bytes", "1K", "--iterations", "1", "--dtype", "int64", "--op", "prod,bxor,avg");
        Assert.Equal(1, result.ExitCode); // averages are of floating-point types
        Assert.Contains("fabric bench: ", result.Error, StringComparison.Ordinal);
        var lines = result.Output.Split('\n');
        Assert.Contains(lines, line => line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries) is ["#", "size", "count", "type", "redop", "time", "algbw", "busbw", "#wrong"]);
        Assert.Contains(lines, line => line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries) is ["1024", "128", "int64", "prod", _, _, _, "0"]);
        Assert.Contains(lines, line => line.StartsWith("# memcpy of one core: ", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("--ranks 1", "--ranks 1 must be 2 or more")]
    [InlineData("--factor 1", "--factor 1 must be 2 or more")]
    [InlineData("--iterations 0", "--iterations 0 must be 1 or more")]
    [InlineData("--min-bytes 3X", "--min-bytes 3X: a size is a number from 1 to 16G")]
    [InlineData("--max-bytes 0", "--max-bytes 0: a size is a number from 1 to 16G")]
    [InlineData("--max-bytes 17G", "--max-bytes 17G: a size is a number from 1 to 16G")]
    [InlineData("--min-bytes 2M --max-bytes 1M", "--min-bytes 2M is more than --max-bytes 1M")]
    [InlineData("--dtype float32,float31", "--dtype 'float31' is not known. Available: float32")]
    [InlineData("--op mean", "--op 'mean' is not known. Available: sum")]
    [InlineData("--backend gloo", "--backend 'gloo' is not known. Available: shm")]
    public async Task AllReduce_WrongOption_EndsWithOneAndSaysWhatIsPossible(string options, string expected)
    {
        var result = await RunAsync([Programs.Worker, .. options.Split(' ')]);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AllReduce_ProgramWithoutLibTorch_EndsWithTwoAndTheRemedy()
    {
        var result = await RunAsync(Programs.Fabric);
        Assert.Equal(2, result.ExitCode);
        Assert.Contains("dotnet add package TorchSharp-cpu", result.Error, StringComparison.Ordinal);
    }

    private static async Task<ProgramResult> RunAsync(params string[] arguments)
    {
        using var program = new RunningProgram(Programs.Fabric, ["bench", "all-reduce", .. arguments]);
        return await program.EndAsync(Limit);
    }
}
