using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.Cli;

/// <summary>The command line as its user sees it.</summary>
public sealed class FabricCommandTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData("")]
    [InlineData(".dll")]
    public async Task Run_ProgramWithArguments_StartsItAndPassesThemOn(string extension)
    {
        using var program = new RunningProgram(Programs.Fabric, ["run", "--main-port", "0", Programs.Worker + extension, "--", "echo", "ranks=3", "--strategy", "a b"]);
        var result = await program.EndAsync(Limit);
        foreach (var report in result.ReportsOf(3))
            Assert.Equal(["echo", "ranks=3", "--strategy", "a b"], report.GetProperty("arguments").EnumerateArray().Select(argument => argument.GetString()));
    }

    [Fact]
    public async Task Run_OtherDevicesThanTheProgramSets_NamesBoth()
    {
        using var program = new RunningProgram(Programs.Fabric, ["run", "--devices", "3", Programs.Worker, "--", "echo", "ranks=2"]);
        var result = await program.EndAsync(Limit);
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("devices=2", result.Error, StringComparison.Ordinal);
        Assert.Contains("devices=3", result.Error, StringComparison.Ordinal);
        Assert.Contains("CLI", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("64", 0)]
    [InlineData("bf16-true", 1)]
    public async Task Run_Precision_ReachesTheProgramOrIsAConflict(string precision, int exitCode)
    {
        using var program = new RunningProgram(Programs.Fabric, ["run", "--main-port", "0", "--precision", precision, Programs.Worker, "--", "precision", "flag=true", "precision=64-true"]);
        var result = await program.EndAsync(Limit);
        Assert.Equal(exitCode == 0, result.ExitCode == 0);
        Assert.Equal(exitCode != 0, result.Error.Contains($"precision={precision}` set through the CLI", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Run_ProgramFails_EndsWithItsCode()
    {
        using var program = new RunningProgram(Programs.Fabric, ["run", Programs.Worker, "--", "exit-early", "who=0", "code=7"]);
        Assert.Equal(7, (await program.EndAsync(Limit)).ExitCode);
    }

    [Fact]
    public async Task Run_NoSuchProgram_SaysSo()
    {
        using var program = new RunningProgram(Programs.Fabric, ["run", "nothing.dll"]);
        var result = await program.EndAsync(Limit);
        Assert.Equal(2, result.ExitCode);
        Assert.Contains("there is no file 'nothing.dll'", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_Json_GivesOneFindingPerLine()
    {
        using var program = new RunningProgram(Programs.Fabric, ["doctor", "--json"]);
        var result = await program.EndAsync(Limit);
        var checks = result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement).ToList();
        Assert.Equal(["platform", "cores", "shared memory", "libstdc++", "loopback", "MPI"], checks.Select(check => check.GetProperty("check").GetString()));
        Assert.Equal(checks.TrueForAll(check => check.GetProperty("ok").GetBoolean()) ? 0 : 1, result.ExitCode);
    }

    [Fact]
    public async Task Doctor_SharedMemoryFolderMissing_SaysWhatToDo()
    {
        using var program = new RunningProgram(Programs.Fabric, ["doctor", "--json"], ("FABRIC_SHM_DIR", "/no/such/folder"));
        var result = await program.EndAsync(Limit);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("FABRIC_SHM_DIR=/no/such/folder is no existing folder", result.Output, StringComparison.Ordinal);
    }
}
