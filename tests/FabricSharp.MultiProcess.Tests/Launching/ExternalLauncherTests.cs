namespace FabricSharp.MultiProcess.Tests.Launching;

/// <summary>Ranks that something else started join without a setting of their own.</summary>
public sealed class ExternalLauncherTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    /// <summary>mpirun gives ranks a pseudo-terminal, to which .NET sends control characters unless it is a dumb one.</summary>
    private static readonly (string, string?) Plain = ("TERM", "dumb");

    [Theory]
    [InlineData("ranks=2")]
    [InlineData("ranks=auto")]
    public async Task Launch_UnderOpenMpi_JoinsTheRanksOfMpirun(string ranks)
    {
        var mpirun = MpiRun.Find("mpirun.openmpi", "mpirun");
        Assert.SkipWhen(mpirun is null, "There is no mpirun of Open MPI: apt-get install openmpi-bin.");
        using var program = new RunningProgram(mpirun, ["--allow-run-as-root", "--oversubscribe", "-n", "2", "dotnet", Programs.Worker + ".dll", "echo", ranks], Plain);
        AssertTwoJoined(await program.EndAsync(Limit));
    }

    [Fact]
    public async Task Launch_UnderMpich_JoinsTheRanksOfMpiexec()
    {
        var mpiexec = MpiRun.Find("mpiexec.hydra");
        Assert.SkipWhen(mpiexec is null, "There is no mpiexec.hydra: apt-get install mpich.");
        using var program = new RunningProgram(mpiexec, ["-genv", "MASTER_PORT", $"{ExternalRanks.FreePort()}", "-n", "2", "dotnet", Programs.Worker + ".dll", "echo", "ranks=auto"]);
        AssertTwoJoined(await program.EndAsync(Limit));
    }

    [Fact]
    public async Task Launch_UnderMpirunWithOtherDevices_IsRefusedInLightningsWords()
    {
        var mpirun = MpiRun.Find("mpirun.openmpi", "mpirun");
        Assert.SkipWhen(mpirun is null, "There is no mpirun of Open MPI: apt-get install openmpi-bin.");
        using var program = new RunningProgram(mpirun, ["--allow-run-as-root", "--oversubscribe", "-n", "2", "dotnet", Programs.Worker + ".dll", "echo", "ranks=3"], Plain);
        var result = await program.EndAsync(Limit);
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("the product (3 * 1) does not match the world size (2) of the environment 'mpi'", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Launch_UnderTorchrunWithItsAgentsStore_MakesEveryRankAClient()
    {
        var port = ExternalRanks.FreePort();
        using var agent = RunningProgram.Worker($"serve-store port={port}");
        await agent.SeeAsync(line => line == "serving", Limit);
        using var second = RunningProgram.Worker("echo ranks=auto", ExternalRanks.Torchrun(1, 2, port));
        using var first = RunningProgram.Worker("echo ranks=auto", ExternalRanks.Torchrun(0, 2, port)); // would fail to serve the port a second time
        AssertTwoJoined(await first.EndAsync(Limit), await second.EndAsync(Limit));
    }

    /// <summary>Two ranks, no more, computed together.</summary>
    private static void AssertTwoJoined(params ProgramResult[] results)
    {
        Assert.All(results, result => Assert.True(result.ExitCode == 0, result.ToString()));
        var reports = results.SelectMany(result => result.Reports).OrderBy(report => report.GetProperty("rank").GetInt32()).ToList();
        Assert.True(reports.Count == 2, string.Join("\n", results.Select(result => result.ToString())));
        Assert.Equal([0, 1], reports.Select(report => report.GetProperty("rank").GetInt32()));
        Assert.Equal([0, 1], reports.Select(report => report.GetProperty("localRank").GetInt32()));
        Assert.All(reports, report => Assert.Equal((2, 3.0), (report.GetProperty("world").GetInt32(), report.GetProperty("sum").GetDouble())));
        Assert.Equal(2, reports.Select(report => report.GetProperty("process").GetInt32()).Distinct().Count());
        Assert.Contains("Starting with 2 processes.", string.Concat(results.Select(result => result.Error)), StringComparison.Ordinal);
    }

}
