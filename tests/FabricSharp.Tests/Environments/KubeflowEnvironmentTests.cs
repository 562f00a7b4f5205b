using FabricSharp.Environments;

namespace FabricSharp.Tests.Environments;

public class KubeflowEnvironmentTests
{
    [Fact]
    public void Read_AsTheOperatorSetsThem_GivesTheVariables()
    {
        var environment = KubeflowEnvironment.Read(Recorded.Kubeflow.Variable);
        Assert.Equal(("kubeflow", true, false), (environment.Name, environment.CreatesProcessesExternally, environment.IsStoreServedExternally));
        Assert.Equal((1, 0, 1, 3, 1), (environment.GlobalRank, environment.LocalRank, environment.NodeRank, environment.WorldSize, environment.LocalWorldSize));
        Assert.Equal(("train-master-0", 23456), (environment.MainAddress, environment.MainPort));
    }

    [Theory]
    [InlineData("KUBERNETES_SERVICE_HOST", null)]
    [InlineData("RANK", null)]
    [InlineData("WORLD_SIZE", null)]
    [InlineData("WORLD_SIZE", "1")]
    [InlineData("MASTER_ADDR", "")]
    [InlineData("MASTER_PORT", null)]
    [InlineData("LOCAL_RANK", "0")]
    public void Detect_AnythingElse_IsFalse(string name, string? value)
    {
        Assert.True(KubeflowEnvironment.Detect(Recorded.Kubeflow.Variable));
        Assert.False(KubeflowEnvironment.Detect(Recorded.Kubeflow.With(name, value).Variable));
    }

    [Theory]
    [InlineData("MASTER_ADDR", null)]
    [InlineData("MASTER_PORT", null)]
    [InlineData("WORLD_SIZE", null)]
    [InlineData("RANK", null)]
    [InlineData("RANK", "first")]
    [InlineData("WORLD_SIZE", "-3")]
    [InlineData("MASTER_PORT", "0")]
    public void Read_MissingOrMalformed_NamesTheVariableAndTheRemedy(string name, string? value)
    {
        var e = Assert.Throws<ArgumentException>(() => KubeflowEnvironment.Read(Recorded.Kubeflow.With(name, value).Variable));
        Assert.Contains(value is null ? $"{name} is not set" : $"{name}={value} must be a whole number from", e.Message);
        Assert.Contains("PyTorchJob", e.Message);
    }
}
