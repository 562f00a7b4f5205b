using FabricSharp.Environments;

namespace FabricSharp.Tests.Environments;

public sealed class EnvironmentRegistryTests : IDisposable
{
    private readonly string _rankFile = Path.GetTempFileName();

    public EnvironmentRegistryTests() => File.WriteAllLines(_rankFile, ["batch", System.Net.Dns.GetHostName()]);

    public void Dispose() => File.Delete(_rankFile);

    [Fact]
    public void Detect_VariablesOfAll_TakesThemInOrder()
    {
        var all = Recorded.Kubeflow.And(Recorded.OpenMpi).And(Recorded.Lsf(_rankFile)).And(Recorded.Slurm).And(Recorded.Torchrun);
        Assert.Equal("torchelastic", Detected(all));
        Assert.Equal("slurm", Detected(all.With("TORCHELASTIC_RUN_ID", null)));
        Assert.Equal("lsf", Detected(all.With("SLURM_NTASKS", null)));
        Assert.Equal("mpi", Detected(all.With("LSB_JOBID", null).With("OMPI_COMM_WORLD_SIZE", "2")));
        foreach (var name in new[] { "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "LOCAL_RANK" })
            all.Remove(name);
        Assert.Equal("kubeflow", Detected(all));
        Assert.Equal("local", Detected(all.With("KUBERNETES_SERVICE_HOST", null)));
    }

    [Fact]
    public void Detect_NothingSet_IsLocal() => Assert.Equal("local", Detected([]));

    [Fact]
    public void Detect_WorldOfOneUnderMpi_IsLocal() =>
        Assert.Equal("local", Detected(Recorded.OpenMpi.With("OMPI_COMM_WORLD_SIZE", "1").With("OMPI_COMM_WORLD_RANK", "0")));

    [Theory]
    [InlineData("slurm", "slurm")]
    [InlineData("SLURM", "slurm")]
    [InlineData("local", "local")]
    public void Read_Name_BeatsWhatIsDetected(string name, string expected) =>
        Assert.Equal(expected, EnvironmentRegistry.Read(name, Recorded.Slurm.And(Recorded.Torchrun).Variable).Name);

    [Fact]
    public void FromVariables_UnknownName_ListsTheKnown()
    {
        var e = Assert.Throws<ArgumentException>(() => ClusterEnvironment.FromVariables("slrum"));
        Assert.Contains("Did you mean 'slurm'?", e.Message);
        Assert.Contains("torchelastic, slurm, lsf, mpi, kubeflow, local", e.Message);
    }

    private static string Detected(Recorded variables) => EnvironmentRegistry.Detect(variables.Variable).Name;
}
