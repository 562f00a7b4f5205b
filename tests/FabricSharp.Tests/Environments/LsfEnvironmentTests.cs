using FabricSharp.Environments;

namespace FabricSharp.Tests.Environments;

public sealed class LsfEnvironmentTests : IDisposable
{
    private readonly string _rankFile = Path.GetTempFileName();

    public LsfEnvironmentTests() => File.WriteAllLines(_rankFile, ["batch1", "c01.site.org", "c01.site.org", "c02.site.org", "c02.site.org"]);

    public void Dispose() => File.Delete(_rankFile);

    [Fact]
    public void Read_AsJsrunSetsThem_GivesTheVariables()
    {
        var environment = LsfEnvironment.Read(Recorded.Lsf(_rankFile).Variable, "c02.site.org");
        Assert.Equal(("lsf", true, false), (environment.Name, environment.CreatesProcessesExternally, environment.IsStoreServedExternally));
        Assert.Equal((2, 0, 1, 4, 2), (environment.GlobalRank, environment.LocalRank, environment.NodeRank, environment.WorldSize, environment.LocalWorldSize));
        Assert.Equal(("c01.site.org", 10567), (environment.MainAddress, environment.MainPort));
    }

    [Theory]
    [InlineData("c01.site.org", 0)]
    [InlineData("c01", 0)]
    [InlineData("C02", 1)]
    public void Read_MachineName_GivesTheNode(string machine, int expected) =>
        Assert.Equal(expected, LsfEnvironment.Read(Recorded.Lsf(_rankFile).Variable, machine).NodeRank);

    [Theory]
    [InlineData("batch1")]
    [InlineData("c03")]
    [InlineData("c01.other.org")]
    public void Read_MachineThatIsNotListed_IsNamed(string machine)
    {
        var e = Assert.Throws<ArgumentException>(() => LsfEnvironment.Read(Recorded.Lsf(_rankFile).Variable, machine));
        Assert.Contains($"LSB_DJOB_RANKFILE={_rankFile} must be a file that lists this machine, '{machine}'", e.Message);
        Assert.Contains("c01.site.org, c02.site.org", e.Message);
    }

    [Fact]
    public void Read_MasterPort_Wins() => Assert.Equal(29500, LsfEnvironment.Read(Recorded.Lsf(_rankFile).With("MASTER_PORT", "29500").Variable, "c01").MainPort);

    [Theory]
    [InlineData("LSB_JOBID")]
    [InlineData("LSB_DJOB_RANKFILE")]
    [InlineData("JSM_NAMESPACE_LOCAL_RANK")]
    [InlineData("JSM_NAMESPACE_SIZE")]
    public void Detect_WithoutOneMark_IsFalse(string name)
    {
        Assert.True(LsfEnvironment.Detect(Recorded.Lsf(_rankFile).Variable));
        Assert.False(LsfEnvironment.Detect(Recorded.Lsf(_rankFile).With(name, null).Variable));
    }

    [Theory]
    [InlineData("LSB_JOBID", null)]
    [InlineData("LSB_DJOB_RANKFILE", null)]
    [InlineData("JSM_NAMESPACE_RANK", null)]
    [InlineData("JSM_NAMESPACE_LOCAL_RANK", null)]
    [InlineData("JSM_NAMESPACE_SIZE", null)]
    [InlineData("LSB_JOBID", "job")]
    [InlineData("LSB_DJOB_RANKFILE", "/nowhere/ranks")]
    [InlineData("JSM_NAMESPACE_RANK", "-2")]
    [InlineData("JSM_NAMESPACE_LOCAL_RANK", "x")]
    [InlineData("JSM_NAMESPACE_SIZE", "0")]
    [InlineData("JSM_NAMESPACE_LOCAL_SIZE", "none")]
    public void Read_MissingOrMalformed_NamesTheVariableAndJsrun(string name, string? value)
    {
        var e = Assert.Throws<ArgumentException>(() => LsfEnvironment.Read(Recorded.Lsf(_rankFile).With(name, value).Variable, "c01"));
        Assert.Contains(value is null ? $"{name} is not set" : $"{name}={value} must be a", e.Message);
        Assert.Contains("jsrun", e.Message);
    }

    [Fact]
    public void Read_RankFileOfTheLaunchingMachineOnly_IsRefused()
    {
        File.WriteAllLines(_rankFile, ["batch1"]);
        Assert.Contains("at least two lines", Assert.Throws<ArgumentException>(() => LsfEnvironment.Read(Recorded.Lsf(_rankFile).Variable, "c01")).Message);
    }
}
