using FabricSharp.Environments;

namespace FabricSharp.Tests.Environments;

public class SlurmEnvironmentTests
{
    [Fact]
    public void Read_AsSrunSetsThem_GivesTheVariables()
    {
        var environment = SlurmEnvironment.Read(Recorded.Slurm.Variable);
        Assert.Equal(("slurm", true, false), (environment.Name, environment.CreatesProcessesExternally, environment.IsStoreServedExternally));
        Assert.Equal((5, 1, 1, 8, 4), (environment.GlobalRank, environment.LocalRank, environment.NodeRank, environment.WorldSize, environment.LocalWorldSize));
        Assert.Equal(("gpu07", 16234), (environment.MainAddress, environment.MainPort));
        Assert.Empty(environment.Warnings);
    }

    [Theory]
    [InlineData("SLURM_JOB_NAME", "train.sh", true)]
    [InlineData("SLURM_JOB_NAME", null, true)]
    [InlineData("SLURM_JOB_NAME", "bash", false)]
    [InlineData("SLURM_JOB_NAME", "interactive", false)]
    [InlineData("SLURM_NTASKS", null, false)]
    public void Detect_Always_GoesByTasksAndJobName(string name, string? value, bool expected) =>
        Assert.Equal(expected, SlurmEnvironment.Detect(Recorded.Slurm.With(name, value).Variable));

    [Theory]
    [InlineData("host5", "host5")]
    [InlineData("host[5-9]", "host5")]
    [InlineData("host[5,7]", "host5")]
    [InlineData("host[3]", "host3")]
    [InlineData("a1,b2", "a1")]
    [InlineData("a1 b2", "a1")]
    [InlineData("host[001-010]", "host001")]
    [InlineData("host[5-9,11],other[1-2]", "host5")]
    [InlineData("rack[2-3]n[07-08].site", "rack2n07.site")]
    [InlineData("alpha,beta[1-3]", "alpha")]
    [InlineData("10.0.0.7", "10.0.0.7")]
    public void First_OfAHostList_IsTheFirstMachine(string list, string expected) => Assert.Equal(expected, SlurmHostList.First(list));

    [Theory]
    [InlineData("host[5-9")]
    [InlineData("host[]")]
    [InlineData("host[a-b]")]
    [InlineData("host5]")]
    [InlineData(",host")]
    public void Read_MalformedHostList_IsNamed(string list)
    {
        var e = Assert.Throws<ArgumentException>(() => SlurmEnvironment.Read(Recorded.Slurm.With("SLURM_NODELIST", list).Variable));
        Assert.Contains($"SLURM_NODELIST={list} must be a list of machines", e.Message);
    }

    [Theory]
    [InlineData("8641234", 16234)]
    [InlineData("1234", 16234)]
    [InlineData("9999", 24999)]
    [InlineData("100000", 15000)]
    [InlineData("7", 15007)]
    [InlineData(null, 12910)]
    public void Read_JobId_GivesThePort(string? job, int expected) =>
        Assert.Equal(expected, SlurmEnvironment.Read(Recorded.Slurm.With("SLURM_JOB_ID", job).Variable).MainPort);

    [Fact]
    public void Read_MasterAddressAndPort_Win()
    {
        var environment = SlurmEnvironment.Read(Recorded.Slurm.With("MASTER_ADDR", "head").With("MASTER_PORT", "29500").Variable);
        Assert.Equal(("head", 29500), (environment.MainAddress, environment.MainPort));
    }

    [Fact]
    public void Read_OneMachineWithoutList_IsTheLoopback()
    {
        var recorded = Recorded.Slurm.With("SLURM_NODELIST", null).With("SLURM_NNODES", "1").With("SLURM_NTASKS", "4");
        Assert.Equal("127.0.0.1", SlurmEnvironment.Read(recorded.Variable).MainAddress);
    }

    [Theory]
    [InlineData("SLURM_PROCID", null)]
    [InlineData("SLURM_LOCALID", null)]
    [InlineData("SLURM_NODEID", null)]
    [InlineData("SLURM_NODELIST", null)]
    [InlineData("SLURM_PROCID", "-1")]
    [InlineData("SLURM_LOCALID", "x")]
    [InlineData("SLURM_NODEID", "0.5")]
    [InlineData("SLURM_NTASKS", "0")]
    [InlineData("SLURM_NNODES", "two")]
    [InlineData("SLURM_NTASKS_PER_NODE", "4(x2)")]
    [InlineData("SLURM_JOB_ID", "12a4")]
    [InlineData("MASTER_PORT", "http")]
    public void Read_MissingOrMalformed_NamesTheVariableAndTheRemedy(string name, string? value)
    {
        var e = Assert.Throws<ArgumentException>(() => SlurmEnvironment.Read(Recorded.Slurm.With(name, value).Variable));
        Assert.Contains(value is null ? $"{name} is not set" : $"{name}={value} must be a", e.Message);
        Assert.Contains("srun dotnet App.dll", e.Message);
    }

    [Fact]
    public void Read_TasksWithoutTasksPerNode_IsRefused()
    {
        var e = Assert.Throws<ArgumentException>(() => SlurmEnvironment.Read(Recorded.Slurm.With("SLURM_NTASKS_PER_NODE", null).Variable));
        Assert.Contains("You set `--ntasks=8` in your SLURM bash script, but this variable is not supported. HINT: Use `--ntasks-per-node=4` instead", e.Message);
    }

    [Fact]
    public void Read_OneTaskWithoutTasksPerNode_IsAWorldOfOne()
    {
        var recorded = Recorded.Slurm.With("SLURM_NTASKS_PER_NODE", null).With("SLURM_NTASKS", "1").With("SLURM_NNODES", "1");
        var environment = SlurmEnvironment.Read(recorded.Variable);
        Assert.Equal((1, 1), (environment.WorldSize, environment.LocalWorldSize));
    }

    [Theory]
    [InlineData(2, 2, "--ntasks-per-node=4` does not match. HINT: Set `devices=4`")]
    [InlineData(4, 1, "--nodes=2` does not match. HINT: Set `numNodes=2`")]
    public void Validate_OtherNumbersThanTheJobs_IsRefused(int devices, int numNodes, string expected)
    {
        var e = Assert.Throws<ArgumentException>(() => SlurmEnvironment.Read(Recorded.Slurm.Variable).Validate(devices, numNodes));
        Assert.Contains(expected, e.Message);
    }

    [Fact]
    public void Validate_FewerTasksThanAllNodesTake_IsRefused()
    {
        var environment = SlurmEnvironment.Read(Recorded.Slurm.With("SLURM_NTASKS", "7").Variable);
        Assert.Contains("the product (4 * 2) does not match the world size (7)", Assert.Throws<ArgumentException>(() => environment.Validate(4, 2)).Message);
    }

    [Fact]
    public void Validate_TheJobsNumbers_Passes() => SlurmEnvironment.Read(Recorded.Slurm.Variable).Validate(4, 2);

    [Fact]
    public void Warnings_BatchScriptWithoutSrun_SaySo()
    {
        var warning = Assert.Single(SlurmEnvironment.Read(Recorded.Slurm.With("SLURM_STEP_ID", null).Variable).Warnings);
        Assert.Contains("not started by `srun`", warning);
    }
}
