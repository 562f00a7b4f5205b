using FabricSharp.Environments;

namespace FabricSharp.Tests.Environments;

/// <summary>The hint for those who have <c>srun</c> and did not use it.</summary>
public sealed class UnusedSrunTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabricsharp-srun-").FullName;

    public UnusedSrunTests() => File.WriteAllText(Path.Combine(_folder, "srun"), "");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string SearchPath => $"/nowhere{Path.PathSeparator}{Path.PathSeparator}{_folder}";

    [Fact]
    public void Warnings_SrunExists_GiveTheHint()
    {
        var environment = EnvironmentRegistry.Detect(new Recorded { ["PATH"] = SearchPath }.Variable);
        Assert.Equal("local", environment.Name);
        Assert.Contains("The `srun` command is available on your system but is not used.", Assert.Single(environment.Warnings));
    }

    [Fact]
    public void Warnings_ShellWithinAnAllocation_GiveTheHint() =>
        Assert.Single(EnvironmentRegistry.Detect(new Recorded { ["PATH"] = SearchPath, ["SLURM_NTASKS"] = "2", ["SLURM_JOB_NAME"] = "interactive" }.Variable).Warnings);

    [Fact]
    public void Warnings_WithoutSrun_AreNone() => Assert.Empty(LocalEnvironment.Read(new Recorded { ["PATH"] = "/nowhere" }.Variable).Warnings);

    [Fact]
    public void Warnings_StartedBySrun_AreNone() => Assert.Empty(EnvironmentRegistry.Detect(Recorded.Slurm.With("PATH", SearchPath).Variable).Warnings);

    [Fact]
    public void Warnings_RankOfALauncher_AreNone() =>
        Assert.Empty(LocalEnvironment.Read(new Recorded { ["PATH"] = SearchPath, ["LOCAL_RANK"] = "1" }.Variable).Warnings);
}
