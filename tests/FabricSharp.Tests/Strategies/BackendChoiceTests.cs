using FabricSharp.Accelerators;
using FabricSharp.Collectives;
using FabricSharp.Collectives.Nccl;
using FabricSharp.Configuration;
using FabricSharp.Strategies;
using FabricSharp.Tests.Configuration;

namespace FabricSharp.Tests.Strategies;

/// <summary>Which back end a strategy takes, and what it says where that cannot work.</summary>
public class BackendChoiceTests
{
    [Fact]
    public void Backends_Always_NameTheDefaultFirst() => Assert.Equal(["shm", "mpi", "nccl"], ProcessGroup.Backends);

    [Fact]
    public void Check_NcclOnTheProcessor_IsRefused()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", new DDPStrategy(processGroupBackend: "nccl"), 2, 1, RecordedVariables.None));
        Assert.Contains("The 'nccl' back end averages gradients of CUDA tensors; accelerator='cpu'", e.Message);
    }

    [Fact]
    public void Check_SharedMemoryOnGpus_IsRefusedWithTheRemedy()
    {
        var e = Assert.Throws<ArgumentException>(() => Check(new DDPStrategy(processGroupBackend: "shm"), numNodes: 1));
        Assert.Contains("processGroupBackend: \"nccl\"", e.Message);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("nccl")]
    public void Check_GpusWithoutLibraries_SaysWhatIsMissing(string? backend)
    {
        Assert.SkipWhen(NcclEngine.MissingReason is null, "This machine has CUDA and NCCL.");
        var e = Assert.Throws<ArgumentException>(() => Check(new DDPStrategy(processGroupBackend: backend), numNodes: 2));
        Assert.Equal("accelerator", e.ParamName);
        Assert.Contains($"takes the 'nccl' back end, which cannot be used on this machine: {NcclEngine.MissingReason}.", e.Message);
    }

    [Fact]
    public void DeviceIndex_OfALocalRank_IsItsOwn()
    {
        var plan = Plan(new DDPStrategy(), numNodes: 1, ("LOCAL_RANK", "1"));
        Assert.Equal(5, plan.DeviceIndex);
    }

    private static void Check(DDPStrategy strategy, int numNodes) => strategy.Check(Plan(strategy, numNodes));

    private static FabricPlan Plan(DDPStrategy strategy, int numNodes, params (string, string)[] variables) =>
        new(new CudaAccelerator(), [3, 5], numNodes, strategy, FabricSharp.Environments.LocalEnvironment.Read(RecordedVariables.Of(variables)));
}
