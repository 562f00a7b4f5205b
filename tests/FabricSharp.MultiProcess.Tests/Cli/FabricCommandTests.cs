using System.Globalization;
using System.Net;
using System.Net.Sockets;
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
    public async Task Run_EachOption_ReachesItsVariable()
    {
        string[] options = ["--accelerator", "cpu", "--strategy", "ddp", "--devices", "0,1", "--num-nodes", "2", "--node-rank", "1", "--main-address", "host", "--main-port", "1234", "--precision", "bf16-true"];
        using var program = new RunningProgram(Programs.Fabric, ["run", .. options, "/usr/bin/env"]);
        var variables = (await program.EndAsync(Limit)).Output.Split('\n');
        string[] expected = ["LT_CLI_USED=1", "LT_ACCELERATOR=cpu", "LT_STRATEGY=ddp", "LT_DEVICES=0,1", "LT_NUM_NODES=2", "NODE_RANK=1", "MASTER_ADDR=host", "MASTER_PORT=1234", "LT_PRECISION=bf16-true"];
        Assert.All(expected, variable => Assert.Contains(variable, variables));
    }

    [Fact]
    public async Task Run_WrongOption_EndsWithOne()
    {
        using var program = new RunningProgram(Programs.Fabric, ["run", "--num-nodes", "many", Programs.Worker]);
        var result = await program.EndAsync(Limit);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("many", result.Error, StringComparison.Ordinal);
    }

    /// <summary>To accept a deliberate change: <c>fabric run --help > Cli/fabric-run.approved.txt</c>.</summary>
    [Theory]
    [InlineData("run")]
    [InlineData("doctor")]
    [InlineData("bench all-reduce")]
    public async Task Help_OfACommand_IsTheApprovedOne(string command)
    {
        using var program = new RunningProgram(Programs.Fabric, [.. command.Split(' '), "--help"]);
        var result = await program.EndAsync(Limit);
        var approved = await File.ReadAllTextAsync(Path.Combine(Programs.RepositoryRoot, "tests", "FabricSharp.MultiProcess.Tests", "Cli", $"fabric-{command.Replace(' ', '-')}.approved.txt"), TestContext.Current.CancellationToken);
        Assert.Equal(approved.ReplaceLineEndings("\n").TrimEnd(), result.Output.TrimEnd());
    }

    [Theory]
    [InlineData("run --strategy ddp_find_un", "ddp_find_unused_parameters_true")]
    [InlineData("run --accelerator c", "cpu")]
    [InlineData("run --precision bf16-m", "bf16-mixed")]
    [InlineData("doc", "doctor")]
    public async Task Suggest_UnfinishedWord_IsCompleted(string line, string expected)
    {
        using var program = new RunningProgram(Programs.Fabric, [$"[suggest:{line.Length}]", line]);
        var result = await program.EndAsync(Limit);
        Assert.Contains(expected, result.Output.Split('\n'));
        Assert.DoesNotContain("probe-libtorch", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_Json_GivesOneFindingPerLine()
    {
        var (checks, exitCode) = await DoctorAsync();
        Assert.Equal(["platform", "cores", "shared memory", "libstdc++", "loopback", "port", "MPI", "CUDA", "NCCL", "libtorch"], checks.Select(check => check.GetProperty("check").GetString()));
        Assert.Equal(checks.TrueForAll(check => check.GetProperty("ok").GetBoolean() || !check.GetProperty("needed").GetBoolean()) ? 0 : 1, exitCode);
        Assert.All(checks.Where(check => !check.GetProperty("ok").GetBoolean()), check => Assert.False(string.IsNullOrEmpty(check.GetProperty("fix").GetString())));
    }

    [Fact]
    public async Task Doctor_Program_TriesItsLibTorch()
    {
        var (checks, _) = await DoctorAsync([Programs.Worker + ".dll"]);
        var tried = checks.TakeLast(3).ToList();
        Assert.Equal(["libtorch", "gradient hooks", "allocator"], tried.Select(check => check.GetProperty("check").GetString()));
        Assert.All(tried, check => Assert.True(check.GetProperty("ok").GetBoolean(), check.GetRawText()));
        Assert.StartsWith("2.", tried[0].GetProperty("found").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_ProgramWhoseHooksAreSwitchedOff_IsNoFailure()
    {
        var (checks, exitCode) = await DoctorAsync([Programs.Worker], ("FABRIC_GRADIENT_HOOKS", "off"));
        var hooks = checks.Single(check => check.GetProperty("check").GetString() == "gradient hooks");
        Assert.False(hooks.GetProperty("ok").GetBoolean());
        Assert.Contains("FABRIC_GRADIENT_HOOKS=off", hooks.GetProperty("found").GetString(), StringComparison.Ordinal);
        Assert.Equal(0, exitCode);
    }

    [Fact]
    public async Task Doctor_ProgramWithoutLibTorch_IsMissing()
    {
        var (checks, exitCode) = await DoctorAsync([Programs.Fabric]);
        Assert.Contains("dotnet add package TorchSharp-cpu", checks[^1].GetProperty("fix").GetString(), StringComparison.Ordinal);
        Assert.Equal(1, exitCode);
    }

    [Fact]
    public async Task Doctor_LibTorchThatDoesNotLoad_SaysWhy()
    {
        var folder = Directory.CreateTempSubdirectory("fabric-doctor-");
        await File.WriteAllTextAsync(Path.Combine(folder.FullName, "libtorch_cpu.so"), "no library", TestContext.Current.CancellationToken);
        var (checks, exitCode) = await DoctorAsync([folder.FullName]);
        folder.Delete(recursive: true);
        Assert.Contains("does not load", checks[^1].GetProperty("found").GetString(), StringComparison.Ordinal);
        Assert.Equal(1, exitCode);
    }

    [Fact]
    public async Task Doctor_PortTaken_IsMissingWhereItIsSet()
    {
        using var listener = new TcpListener(IPAddress.Any, 0);
        listener.Start();
        var port = ((IPEndPoint)listener.LocalEndpoint).Port;
        var (checks, exitCode) = await DoctorAsync([], ("MASTER_PORT", port.ToString(CultureInfo.InvariantCulture)));
        Assert.Contains("Set MASTER_PORT to a free one", checks.Single(check => check.GetProperty("check").GetString() == "port").GetProperty("fix").GetString(), StringComparison.Ordinal);
        Assert.Equal(1, exitCode);
    }

    [Fact]
    public async Task Doctor_NoJson_ShowsATableWithTheFixes()
    {
        using var program = new RunningProgram(Programs.Fabric, ["doctor", Programs.Fabric]);
        var words = string.Join(' ', (await program.EndAsync(Limit)).Output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains("missing libtorch", words, StringComparison.Ordinal);
        Assert.Contains("dotnet add package", words, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_SharedMemoryFolderMissing_SaysWhatToDo()
    {
        using var program = new RunningProgram(Programs.Fabric, ["doctor", "--json"], ("FABRIC_SHM_DIR", "/no/such/folder"));
        var result = await program.EndAsync(Limit);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("FABRIC_SHM_DIR=/no/such/folder is no existing folder", result.Output, StringComparison.Ordinal);
    }

    private static async Task<(List<JsonElement> Checks, int ExitCode)> DoctorAsync(string[]? arguments = null, params (string Name, string? Value)[] environment)
    {
        using var program = new RunningProgram(Programs.Fabric, ["doctor", "--json", .. arguments ?? []], environment);
        var result = await program.EndAsync(Limit);
        return ([.. result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement)], result.ExitCode);
    }
}
