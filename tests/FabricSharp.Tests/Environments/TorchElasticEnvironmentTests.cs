using FabricSharp.Environments;

namespace FabricSharp.Tests.Environments;

public class TorchElasticEnvironmentTests
{
    [Fact]
    public void Read_AsTorchrunSetsThem_GivesTheVariables()
    {
        var environment = TorchElasticEnvironment.Read(Recorded.Torchrun.Variable);
        Assert.Equal(("torchelastic", true, true), (environment.Name, environment.CreatesProcessesExternally, environment.IsStoreServedExternally));
        Assert.Equal((3, 1, 1, 4, 2), (environment.GlobalRank, environment.LocalRank, environment.NodeRank, environment.WorldSize, environment.LocalWorldSize));
        Assert.Equal(("node0", 29500), (environment.MainAddress, environment.MainPort));
        Assert.Empty(environment.Warnings);
    }

    [Theory]
    [InlineData("none", true)]
    [InlineData("", false)]
    [InlineData(null, false)]
    public void Detect_Always_GoesByTheRunId(string? id, bool expected) =>
        Assert.Equal(expected, TorchElasticEnvironment.Detect(Recorded.Torchrun.With("TORCHELASTIC_RUN_ID", id).Variable));

    [Theory]
    [InlineData("True", true)]
    [InlineData("true", false)]
    [InlineData("1", false)]
    [InlineData("False", false)]
    [InlineData(null, false)]
    public void Read_UseAgentStore_IsCaseSensitive(string? value, bool expected) =>
        Assert.Equal(expected, TorchElasticEnvironment.Read(Recorded.Torchrun.With("TORCHELASTIC_USE_AGENT_STORE", value).Variable).IsStoreServedExternally);

    [Fact]
    public void Read_WithoutAddressAndPort_WarnsWithTheDefaults()
    {
        var environment = TorchElasticEnvironment.Read(Recorded.Torchrun.With("MASTER_ADDR", null).With("MASTER_PORT", null).Variable);
        Assert.Equal(("127.0.0.1", 12910), (environment.MainAddress, environment.MainPort));
        Assert.Equal(["MASTER_ADDR environment variable is not defined. Set as 127.0.0.1.", "MASTER_PORT environment variable is not defined. Set as 12910."], environment.Warnings);
    }

    [Fact]
    public void Read_WithoutGroupAndLocalSize_IsTheFirstMachine()
    {
        var environment = TorchElasticEnvironment.Read(Recorded.Torchrun.With("GROUP_RANK", null).With("LOCAL_WORLD_SIZE", null).Variable);
        Assert.Equal((0, null), (environment.NodeRank, environment.LocalWorldSize));
    }

    [Theory]
    [InlineData("RANK", null)]
    [InlineData("LOCAL_RANK", null)]
    [InlineData("WORLD_SIZE", null)]
    [InlineData("RANK", "-1")]
    [InlineData("LOCAL_RANK", "one")]
    [InlineData("WORLD_SIZE", "0")]
    [InlineData("GROUP_RANK", "x")]
    [InlineData("LOCAL_WORLD_SIZE", "1.5")]
    [InlineData("MASTER_PORT", "0")]
    [InlineData("MASTER_PORT", "65536")]
    public void Read_MissingOrMalformed_NamesTheVariableAndTheRemedy(string name, string? value)
    {
        var e = Assert.Throws<ArgumentException>(() => TorchElasticEnvironment.Read(Recorded.Torchrun.With(name, value).Variable));
        Assert.Contains(value is null ? $"{name} is not set" : $"{name}={value} must be a whole number from", e.Message);
        Assert.Contains("unset TORCHELASTIC_RUN_ID", e.Message);
    }
}
