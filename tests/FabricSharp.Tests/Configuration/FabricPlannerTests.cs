using FabricSharp.Accelerators;
using FabricSharp.Configuration;
using FabricSharp.Strategies;
using static FabricSharp.Tests.Configuration.RecordedVariables;

namespace FabricSharp.Tests.Configuration;

public class FabricPlannerTests
{
    [Fact]
    public void Make_AutoWithOneCpuDevice_IsASingleDevice()
    {
        var plan = FabricPlanner.Make("cpu", "auto", DeviceSelection.Auto, 1, None);
        Assert.IsType<SingleDeviceStrategy>(plan.Strategy);
        Assert.Equal((1, 0, 0), (plan.WorldSize, plan.GlobalRank, plan.LocalRank));
    }

    [Fact]
    public void Make_AutoWithTwoCpuDevices_IsDataParallel()
    {
        var plan = FabricPlanner.Make("cpu", "AUTO", 2, 1, None);
        var strategy = Assert.IsType<DDPStrategy>(plan.Strategy);
        Assert.Equal((false, StartMethod.Popen), (strategy.FindUnusedParameters, strategy.StartMethod));
        Assert.Equal((2, 2), (plan.WorldSize, plan.LocalWorldSize));
    }

    [Fact]
    public void Resolve_AutoWithTwoNodes_IsDataParallel() => Assert.IsType<DDPStrategy>(StrategyRegistry.Resolve("auto", 1, 2));

    [Fact]
    public void Plan_TwoNodesOfTwo_NumbersRanksByNode()
    {
        var variables = Of(("LOCAL_RANK", "1"), ("NODE_RANK", "1"));
        var plan = new FabricPlan(new CpuAccelerator(), [0, 1], 2, new DDPStrategy(), FabricSharp.Environments.LocalEnvironment.Read(variables));
        Assert.Equal((4, 2, 3), (plan.WorldSize, plan.LocalWorldSize, plan.GlobalRank));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    public void Make_NumNodesBelowOne_IsRefused(int numNodes)
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, numNodes, None));
        Assert.Equal("numNodes", e.ParamName);
        Assert.Contains($"got {numNodes}", e.Message);
    }

    [Fact]
    public void Make_SeveralNodesOverSharedMemory_IsRefused()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", new DDPStrategy(processGroupBackend: "shm"), 2, 2, None));
        Assert.Equal("numNodes", e.ParamName);
        Assert.Contains("numNodes=2", e.Message);
        Assert.Contains("processGroupBackend: \"mpi\"", e.Message);
    }

    [Theory]
    [InlineData(null, 2, "The 'mpi' back end, which numNodes=2 needs, connects ranks that mpirun started")]
    [InlineData("mpi", 1, "`mpirun -n 2 dotnet App.dll`, or leave processGroupBackend out")]
    public void Make_MpiWithoutMpirun_SaysHowToStart(string? backend, int nodes, string expected)
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", new DDPStrategy(processGroupBackend: backend), 2, nodes, None));
        Assert.Equal("processGroupBackend", e.ParamName);
        Assert.Contains(expected, e.Message);
    }

    [Theory]
    [InlineData("2", null, false)]
    [InlineData("2", "mpi", true)]
    [InlineData("1", null, true)] // two machines: no MASTER_ADDR is set
    public void Make_UnderMpirun_UsesSharedMemoryOnOneMachineAndMpiOnSeveral(string localSize, string? backend, bool meetsThroughMpi)
    {
        var nodes = localSize == "1" ? 2 : 1;
        var plan = FabricPlanner.Make("cpu", new DDPStrategy(processGroupBackend: backend), default, nodes, Of(
            ("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_LOCAL_RANK", "0"), ("OMPI_COMM_WORLD_LOCAL_SIZE", localSize)));
        plan.Strategy.Attach(plan);
        Assert.Equal(2, plan.WorldSize);
        Assert.Equal(meetsThroughMpi, !plan.Strategy.MeetsThroughStore);
    }

    [Fact]
    public void Make_SingleDeviceStrategyWithTwoDevices_IsRefused()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", new SingleDeviceStrategy(), 2, 1, None));
        Assert.Equal("strategy", e.ParamName);
        Assert.Contains("single_device", e.Message);
        Assert.Contains("devices=2", e.Message);
        Assert.Contains("strategy: \"ddp\"", e.Message);
    }

    [Fact]
    public void Make_MpsWithDataParallel_SuggestsTheCpu()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make(new MpsAccelerator(), "ddp", 1, 1, None));
        Assert.Equal("strategy", e.ParamName);
        Assert.Contains("not supported on the MPS accelerator", e.Message);
        Assert.Contains("accelerator: \"cpu\"", e.Message);
    }

    [Fact]
    public void Make_WorldSizeOfTheEnvironmentDiffers_IsRefused()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 1, Of(("LOCAL_RANK", "0"), ("WORLD_SIZE", "4"))));
        Assert.Contains("You set `devices=2` and `numNodes=1` in Fabric, but the product (2 * 1) does not match the world size (4)", e.Message);
    }

    [Fact]
    public void Make_WorldSizeWithoutLocalRank_IsNotAsked() =>
        Assert.Equal(2, FabricPlanner.Make("cpu", "ddp", 2, 1, Of(("WORLD_SIZE", "4"))).WorldSize);

    [Theory]
    [InlineData("LOCAL_RANK", "2", "local rank 2")]
    [InlineData("NODE_RANK", "1", "node rank 1")]
    public void Make_RankOutOfRange_IsRefused(string name, string value, string expected)
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 1, Of((name, value), ("LOCAL_RANK", "0"))));
        Assert.Contains($"The environment 'local' says {expected}", e.Message);
        Assert.Contains("ranks count from 0", e.Message);
    }

    [Fact]
    public void Make_LocalRankWithASingleDevice_IsIgnored()
    {
        var plan = FabricPlanner.Make("cpu", "auto", 1, 1, Of(("LOCAL_RANK", "3")));
        Assert.Equal((0, 0, 1), (plan.LocalRank, plan.GlobalRank, plan.WorldSize));
    }

    [Fact]
    public void Make_ImpossibleOptions_AreAllReported()
    {
        var strategy = new DDPStrategy(bucketCapMb: -1);
        Assert.Contains("BucketCapMb = -1", Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", strategy, 2, 1, None)).Message);
        var unknown = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", new DDPStrategy(processGroupBackend: "shn"), 2, 1, None));
        Assert.Contains("Did you mean 'shm'?", unknown.Message);
        var timeout = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", new DDPStrategy(timeout: TimeSpan.Zero), 2, 1, None));
        Assert.Equal("timeout", timeout.ParamName);
    }

    [Fact]
    public void Fabric_StrategyObjectOfAnotherFabric_IsRefused()
    {
        var strategy = new DDPStrategy();
        using var first = new Fabric("cpu", strategy, 2);
        var e = Assert.Throws<InvalidOperationException>(() => new Fabric("cpu", strategy, 2));
        Assert.Contains("one strategy object per Fabric", e.Message);
    }
}
