using FabricSharp.Environments;

namespace FabricSharp.Tests.Environments;

public class MpiEnvironmentTests
{
    private static Recorded Pmix => new() { ["PMIX_RANK"] = "1", ["PMIX_NAMESPACE"] = "prterun-vm-4242@1", ["WORLD_SIZE"] = "2", ["LOCAL_RANK"] = "1", ["LOCAL_WORLD_SIZE"] = "2" };

    private static Recorded Mvapich => new() { ["MV2_COMM_WORLD_RANK"] = "1", ["MV2_COMM_WORLD_SIZE"] = "2", ["MV2_COMM_WORLD_LOCAL_RANK"] = "1", ["MV2_COMM_WORLD_LOCAL_SIZE"] = "2", ["MASTER_PORT"] = "29500" };

    private static Recorded Of(string launcher) => launcher switch
    {
        "openmpi" => Recorded.OpenMpi,
        "mpich" => Recorded.Mpich.With("MASTER_PORT", "29500"),
        "mvapich" => Mvapich,
        _ => Pmix,
    };

    [Theory]
    [InlineData("openmpi")]
    [InlineData("mpich")]
    [InlineData("mvapich")]
    [InlineData("pmix")]
    public void Read_AsTheLauncherSetsThem_GivesTheVariables(string launcher)
    {
        Assert.True(MpiEnvironment.Detect(Of(launcher).Variable));
        var environment = MpiEnvironment.Read(Of(launcher).Variable);
        Assert.Equal(("mpi", true, false), (environment.Name, environment.CreatesProcessesExternally, environment.IsStoreServedExternally));
        Assert.Equal((1, 1, 0, 2, 2), (environment.GlobalRank, environment.LocalRank, environment.NodeRank, environment.WorldSize, environment.LocalWorldSize));
        Assert.Equal("127.0.0.1", environment.MainAddress);
        Assert.InRange(environment.MainPort, 10000, 29999);
    }

    [Theory]
    [InlineData("openmpi", "OMPI_COMM_WORLD_SIZE", "1", false)]
    [InlineData("mpich", "PMI_SIZE", "1", false)]
    [InlineData("openmpi", "OMPI_COMM_WORLD_SIZE", null, true)]
    [InlineData("pmix", "WORLD_SIZE", null, true)]
    [InlineData("mpich", "PMI_RANK", null, false)]
    public void Detect_Always_GoesByRankAndSize(string launcher, string name, string? value, bool expected) =>
        Assert.Equal(expected, MpiEnvironment.Detect(Of(launcher).With(name, value).Variable));

    [Fact]
    public void MainPort_OfOneJob_IsTheSameOnEveryRank()
    {
        var first = MpiEnvironment.Read(Recorded.OpenMpi.With("OMPI_COMM_WORLD_RANK", "0").With("OMPI_COMM_WORLD_LOCAL_RANK", "0").With("PMIX_RANK", "0").Variable);
        Assert.Equal(first.MainPort, MpiEnvironment.Read(Recorded.OpenMpi.Variable).MainPort);
        Assert.Equal(29281, first.MainPort); // pinned: processes of different versions of the library have to agree, too
    }

    [Fact]
    public void MainPort_OfJobsInTurn_Differs()
    {
        var ports = Enumerable.Range(0, 50).Select(job => MpiEnvironment.Read(Recorded.OpenMpi.With("PMIX_NAMESPACE", $"{1400700929L + 65536 * job}").Variable).MainPort).ToList();
        Assert.InRange(ports.Distinct().Count(), 48, 50);
        Assert.All(ports, port => Assert.InRange(port, 10000, 29999));
    }

    [Theory]
    [InlineData("OMPI_MCA_ess_base_jobid")]
    [InlineData("OMPI_MCA_orte_hnp_uri")]
    [InlineData("PMI_JOBID")]
    public void MainPort_AnyNameOfTheJob_Suffices(string name) =>
        Assert.InRange(MpiEnvironment.Read(Recorded.Mpich.With(name, "job-7").Variable).MainPort, 10000, 29999);

    [Fact]
    public void MainPort_NoNameOfTheJobAndNoPort_NamesMasterPort() // the back end mpi never asks
    {
        var environment = MpiEnvironment.Read(Recorded.Mpich.Variable);
        var e = Assert.Throws<ArgumentException>(() => environment.MainPort);
        Assert.Contains("MASTER_PORT is not set. MPICH or Intel MPI gives no name to its job", e.Message);
        Assert.Contains("mpiexec -genv MASTER_PORT 29500", e.Message);
    }

    [Fact]
    public void MainAddress_SeveralMachines_NeedsMasterAddress() // the back end mpi never asks
    {
        Recorded Four() => Recorded.OpenMpi.With("OMPI_COMM_WORLD_SIZE", "4").With("OMPI_COMM_WORLD_RANK", "3");
        var without = MpiEnvironment.Read(Four().Variable);
        Assert.Equal((1, 1, 3), (without.NodeRank, without.LocalRank, without.GlobalRank));
        var e = Assert.Throws<ArgumentException>(() => without.MainAddress);
        Assert.Contains("MASTER_ADDR is not set. The 4 ranks are on several machines (OMPI_COMM_WORLD_LOCAL_SIZE=2)", e.Message);
        Assert.Contains("mpirun -x MASTER_ADDR=host1", e.Message);

        var environment = MpiEnvironment.Read(Four().With("MASTER_ADDR", "c01").Variable);
        Assert.Equal(("c01", 1, 1, 3), (environment.MainAddress, environment.NodeRank, environment.LocalRank, environment.GlobalRank));
    }

    [Fact]
    public void Read_RanksPlacedInTurn_IsRefused()
    {
        var recorded = Recorded.OpenMpi.With("OMPI_COMM_WORLD_SIZE", "4").With("OMPI_COMM_WORLD_RANK", "2").With("MASTER_ADDR", "c01"); // local rank 1: 0 and 2 are on one machine
        Assert.Contains("--map-by ppr:2:node", Assert.Throws<ArgumentException>(() => MpiEnvironment.Read(recorded.Variable)).Message);
    }

    [Theory]
    [InlineData("openmpi", "OMPI_COMM_WORLD_SIZE", null)]
    [InlineData("openmpi", "OMPI_COMM_WORLD_LOCAL_RANK", null)]
    [InlineData("openmpi", "OMPI_COMM_WORLD_LOCAL_SIZE", null)]
    [InlineData("openmpi", "OMPI_COMM_WORLD_RANK", "-1")]
    [InlineData("openmpi", "OMPI_COMM_WORLD_SIZE", "two")]
    [InlineData("openmpi", "OMPI_COMM_WORLD_LOCAL_SIZE", "0")]
    [InlineData("openmpi", "MASTER_PORT", "99999")]
    [InlineData("mpich", "PMI_SIZE", null)]
    [InlineData("mpich", "MPI_LOCALRANKID", null)]
    [InlineData("mpich", "MPI_LOCALNRANKS", null)]
    [InlineData("mpich", "MPI_LOCALRANKID", "x")]
    [InlineData("mvapich", "MV2_COMM_WORLD_LOCAL_RANK", null)]
    [InlineData("pmix", "WORLD_SIZE", null)]
    [InlineData("pmix", "LOCAL_RANK", null)]
    [InlineData("pmix", "LOCAL_WORLD_SIZE", null)]
    public void Read_MissingOrMalformed_NamesTheVariableAndTheRemedy(string launcher, string name, string? value)
    {
        var e = Assert.Throws<ArgumentException>(() => MpiEnvironment.Read(Of(launcher).With(name, value).Variable));
        Assert.Contains(value is null ? $"{name} is not set" : $"{name}={value} must be a whole number from", e.Message);
        Assert.Contains("start the program with mpirun, or set what is missing", e.Message);
    }

    [Fact]
    public void Read_OutsideMpi_SaysHowToStart() =>
        Assert.Contains("mpirun -n 2 dotnet App.dll", Assert.Throws<ArgumentException>(() => MpiEnvironment.Read(new Recorded().Variable)).Message);
}
