using FabricSharp.Environments;
using static FabricSharp.Tests.Configuration.RecordedVariables;

namespace FabricSharp.Tests.Environments;

public class LocalEnvironmentTests
{
    [Fact]
    public void Read_NothingSet_GivesTheDefaults()
    {
        var environment = LocalEnvironment.Read(None);
        Assert.Equal("local", environment.Name);
        Assert.False(environment.CreatesProcessesExternally);
        Assert.Equal(("127.0.0.1", 0, 0, 0), (environment.MainAddress, environment.MainPort, environment.LocalRank, environment.NodeRank));
        Assert.Null(environment.WorldSize);
    }

    [Fact]
    public void Read_AllSet_GivesTheVariables()
    {
        var environment = LocalEnvironment.Read(Of(
            ("LOCAL_RANK", "3"), ("MASTER_ADDR", "node7"), ("MASTER_PORT", "29500"), ("NODE_RANK", "2"), ("GROUP_RANK", "9"), ("WORLD_SIZE", "16")));
        Assert.True(environment.CreatesProcessesExternally);
        Assert.Equal(("node7", 29500, 3, 2, 16), (environment.MainAddress, environment.MainPort, environment.LocalRank, environment.NodeRank, environment.WorldSize));
    }

    [Fact]
    public void Read_LocalRankZero_MarksExternalProcesses() => Assert.True(LocalEnvironment.Read(Of(("LOCAL_RANK", "0"))).CreatesProcessesExternally);

    [Theory]
    [InlineData("WORLD_SIZE", "4")]
    [InlineData("MASTER_PORT", "1")]
    [InlineData("LOCAL_RANK", "")]
    public void Read_WithoutLocalRank_IsNotExternal(string name, string value) =>
        Assert.False(LocalEnvironment.Read(Of((name, value))).CreatesProcessesExternally);

    [Fact]
    public void Read_GroupRankAlone_IsTheNode() => Assert.Equal(5, LocalEnvironment.Read(Of(("GROUP_RANK", "5"))).NodeRank);

    [Fact]
    public void Read_EmptyAddress_IsTheLoopback() => Assert.Equal("127.0.0.1", LocalEnvironment.Read(Of(("MASTER_ADDR", ""))).MainAddress);

    [Theory]
    [InlineData("LOCAL_RANK", "x")]
    [InlineData("LOCAL_RANK", "-1")]
    [InlineData("LOCAL_RANK", "1.0")]
    [InlineData("LOCAL_RANK", "99999999999999999999")]
    [InlineData("MASTER_PORT", "65536")]
    [InlineData("MASTER_PORT", "http")]
    [InlineData("NODE_RANK", "-3")]
    [InlineData("GROUP_RANK", "?")]
    [InlineData("WORLD_SIZE", "0")]
    [InlineData("WORLD_SIZE", "two")]
    public void Read_MalformedValue_NamesVariableAndValue(string name, string value)
    {
        var e = Assert.Throws<ArgumentException>(() => LocalEnvironment.Read(Of((name, value))));
        Assert.Contains($"{name}={value} must be a whole number from", e.Message);
    }
}
