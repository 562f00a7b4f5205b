namespace FabricSharp.MultiProcess.Tests.Launching;

/// <summary>The same program is started again in the way it was started, with the arguments it was given.</summary>
public sealed class SubprocessLauncherTests
{
    private static readonly string[] Awkward = ["a b", "quo\"te", "back\\slash\\", "", "$HOME 'x'", "ünï"];

    public enum Way
    {
        Executable,
        DotnetDll,
        DotnetExec,
        DotnetRun,
    }

    [Theory]
    [InlineData(Way.Executable)]
    [InlineData(Way.DotnetDll)]
    [InlineData(Way.DotnetExec)]
    [InlineData(Way.DotnetRun)]
    public async Task Launch_StartedInAnyWay_EveryRankHasTheArguments(Way way)
    {
        string[] arguments = ["echo", "ranks=3", .. Awkward];
        using var program = way switch
        {
            Way.Executable => new RunningProgram(Programs.Worker, arguments),
            Way.DotnetDll => new RunningProgram("dotnet", [Programs.Worker + ".dll", .. arguments]),
            Way.DotnetExec => new RunningProgram("dotnet", ["exec", "--roll-forward", "LatestPatch", Programs.Worker + ".dll", .. arguments]),
            _ => new RunningProgram("dotnet", ["run", "--no-build", "-c", Programs.Configuration, "--project", Path.Combine(Programs.RepositoryRoot, "tests", "FabricSharp.MultiProcess.Worker"), "--", .. arguments]),
        };
        var result = await program.EndAsync(TimeSpan.FromSeconds(60));
        foreach (var report in result.ReportsOf(3))
            Assert.Equal(arguments, report.GetProperty("arguments").EnumerateArray().Select(argument => argument.GetString()));
    }

    [Fact]
    public async Task Launch_TwoRanks_SetLightningsVariablesAndPrefixOutput()
    {
        var result = await RunningProgram.RunWorkerAsync("echo ranks=2");
        foreach (var report in result.ReportsOf(2))
        {
            var rank = report.GetProperty("rank").GetInt32();
            var variables = report.GetProperty("variables");
            Assert.Equal(rank, report.GetProperty("localRank").GetInt32());
            Assert.Equal($"{rank}", variables.GetProperty("LOCAL_RANK").GetString());
            Assert.Equal("0", variables.GetProperty("NODE_RANK").GetString());
            Assert.Equal("2", variables.GetProperty("WORLD_SIZE").GetString());
            Assert.Equal("127.0.0.1", variables.GetProperty("MASTER_ADDR").GetString());
            Assert.Equal(Math.Max(1, Environment.ProcessorCount / 2), report.GetProperty("threads").GetInt32());
        }

        Assert.Equal(2, result.Reports.Select(report => report.GetProperty("process").GetInt32()).Distinct().Count());
        Assert.Contains("[rank 1] a word on standard error from rank 1", result.Error, StringComparison.Ordinal);
        Assert.Contains("\na word on standard error from rank 0", "\n" + result.Error, StringComparison.Ordinal);
        Assert.Single(result.Output.Split('\n'), line => line.Contains("printed once", StringComparison.Ordinal));
        Assert.Single(result.Error.Split('\n'), line => line.Contains("All distributed processes registered. Starting with 2 processes", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Launch_ThreadsSetByUser_AreKept()
    {
        var result = await RunningProgram.RunWorkerAsync("echo ranks=2", null, ("OMP_NUM_THREADS", "2"));
        Assert.All(result.ReportsOf(2), report => Assert.Equal("2", report.GetProperty("variables").GetProperty("OMP_NUM_THREADS").GetString()));
    }

    [Fact]
    public async Task Launch_RanksStartedFromOutside_StartsNone()
    {
        var port = ExternalRanks.FreePort();
        (string, string?)[] Environment(int rank) => [("LOCAL_RANK", $"{rank}"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", $"{port}"), ("NODE_RANK", "0")];
        using var second = RunningProgram.Worker("echo ranks=2", Environment(1));
        using var first = RunningProgram.Worker("echo ranks=2", Environment(0));
        var limit = TimeSpan.FromSeconds(30);
        Assert.Equal(0, Assert.Single((await first.EndAsync(limit)).Reports).GetProperty("rank").GetInt32());
        Assert.Equal(1, Assert.Single((await second.EndAsync(limit)).Reports).GetProperty("rank").GetInt32());
    }

    [Theory]
    [InlineData("ddp_notebook")]
    [InlineData("ddp_spawn")]
    [InlineData("ddp")]
    public async Task LaunchFunction_RanksStartedFromOutside_RunsOnThoseOnly(string strategy)
    {
        var port = ExternalRanks.FreePort();
        (string, string?)[] Environment(int rank) => [("LOCAL_RANK", $"{rank}"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", $"{port}")];
        using var second = RunningProgram.Worker($"launch-function strategy={strategy}", Environment(1));
        using var first = RunningProgram.Worker($"launch-function strategy={strategy}", Environment(0));
        var limit = TimeSpan.FromSeconds(30);
        var reports = new[] { Assert.Single((await first.EndAsync(limit)).Reports), Assert.Single((await second.EndAsync(limit)).Reports) };
        Assert.Equal([0, 1], reports.Select(report => report.GetProperty("rank").GetInt32()));
        Assert.All(reports, report => Assert.Equal(3, report.GetProperty("sum").GetDouble()));
    }

    [Fact]
    public async Task Launch_Twice_IsRefusedBeforeAnythingStarts()
    {
        var result = await RunningProgram.RunWorkerAsync("launch-twice ranks=2");
        Assert.All(result.ReportsOf(2), report => Assert.Contains("The launcher can only create subprocesses once", report.GetProperty("message").GetString(), StringComparison.Ordinal));
        Assert.DoesNotContain("another store", result.Output, StringComparison.Ordinal); // that of ranks that were started a second time
    }

    [Theory]
    [InlineData("strategy=ddp_find_unused_parameter_true", "Did you mean 'ddp_find_unused_parameters_true'?")]
    [InlineData("strategy=ddp_fork", "a .NET process cannot be forked")]
    [InlineData("ranks=0", "devices=0")]
    public async Task Launch_WrongArguments_EndsBeforeAnythingStarts(string argument, string expected)
    {
        var result = await RunningProgram.RunWorkerAsync($"echo {argument}");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        Assert.Empty(result.Reports);
    }
}
