namespace FabricSharp.MultiProcess.Tests.Packaging;

/// <summary>The package in a user's hands: TorchSharp loads, and two ranks train, however the program is run or published.</summary>
public sealed class PackageTests(ConsumerProject project) : IClassFixture<ConsumerProject>
{
    [Fact]
    public async Task DotnetRun_WithoutRuntimeIdentifier_TrainsOnTwoRanks()
    {
        using var program = new RunningProgram("dotnet", ["run", "--project", project.Folder]);
        AssertTrained(await program.EndAsync(TimeSpan.FromMinutes(3)));
    }

    [Fact]
    public async Task Testing_Installed_RunsRanksInThreadsAndProcesses()
    {
        using var program = new RunningProgram("dotnet", ["run", "--project", project.TestFolder]);
        var result = await program.EndAsync(TimeSpan.FromMinutes(3));
        Assert.True(result.ExitCode == 0, result.ToString());
        Assert.Contains("threads 1.5 1.5\n", result.Output);
        Assert.Contains("processes 0 sum 3 0 sum 3\n", result.Output);
    }

    [Fact]
    public async Task Publish_WithoutRuntimeIdentifier_TrainsOnTwoRanks()
    {
        var output = await PublishAsync("portable");
        using var program = new RunningProgram("dotnet", [Path.Combine(output, "app.dll")]);
        AssertTrained(await program.EndAsync(TimeSpan.FromMinutes(1)));
        Directory.Delete(output, recursive: true);
    }

    [Theory]
    [InlineData("rid", "--no-self-contained")]
    [InlineData("single", "-p:PublishSingleFile=true")]
    [InlineData("single-all", "-p:PublishSingleFile=true", "-p:IncludeNativeLibrariesForSelfExtract=true")]
    public async Task Publish_ForLinuxX64_TrainsOnTwoRanks(string name, params string[] options)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture == System.Runtime.InteropServices.Architecture.X64, "This machine cannot run programs for linux-x64.");
        var output = await PublishAsync(name, ["-r", "linux-x64", .. options]);
        using var program = new RunningProgram(Path.Combine(output, "app"), [], ("DOTNET_BUNDLE_EXTRACT_BASE_DIR", Path.Combine(output, "extracted")));
        AssertTrained(await program.EndAsync(TimeSpan.FromMinutes(1)));
        Directory.Delete(output, recursive: true);
    }

    private static void AssertTrained(ProgramResult result)
    {
        Assert.True(result.ExitCode == 0, result.ToString());
        var lines = result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        var own = Assert.Single(lines, line => line.StartsWith("rank 0 of 2: ", StringComparison.Ordinal));
        var other = Assert.Single(lines, line => line.StartsWith("[rank 1] rank 1 of 2: ", StringComparison.Ordinal));
        Assert.Equal(own[(own.LastIndexOf(' ') + 1)..], other[(other.LastIndexOf(' ') + 1)..]);
    }

    private async Task<string> PublishAsync(string name, params string[] options)
    {
        var output = Path.Combine(Path.GetDirectoryName(project.Folder)!, name);
        await ConsumerProject.DotnetAsync(["publish", project.Folder, "-o", output, .. options]);
        return output;
    }
}
