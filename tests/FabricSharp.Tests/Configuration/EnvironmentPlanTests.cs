using FabricSharp.Accelerators;
using FabricSharp.Configuration;
using FabricSharp.Environments;
using FabricSharp.Strategies;
using FabricSharp.Tests.Environments;

namespace FabricSharp.Tests.Configuration;

/// <summary>What a plan makes of the environment, detected or given as a plugin.</summary>
public class EnvironmentPlanTests
{
    private static Recorded TorchrunOnOneMachine => Recorded.Torchrun.With("GROUP_RANK", "0").With("WORLD_SIZE", "2").With("RANK", "0");

    [Fact]
    public void Make_AutoDevicesUnderMpi_AreTheRanksOfTheMachine()
    {
        var plan = FabricPlanner.Make("cpu", "auto", "auto", 1, Recorded.OpenMpi.Variable);
        Assert.IsType<DDPStrategy>(plan.Strategy);
        Assert.Equal((2, 2, 1, 1, 0), (plan.WorldSize, plan.LocalWorldSize, plan.GlobalRank, plan.LocalRank, plan.NodeRank));
        Assert.Empty(plan.Warnings);
    }

    [Fact]
    public void Make_GlobalRankOfTheEnvironment_Wins()
    {
        var plan = FabricPlanner.Make("cpu", "ddp", 2, 1, TorchrunOnOneMachine.Variable); // torchelastic may number ranks in any order
        Assert.Equal((0, 1), (plan.GlobalRank, plan.LocalRank));
    }

    [Theory]
    [InlineData("GROUP_RANK", "1", "node rank 1")]
    [InlineData("LOCAL_RANK", "2", "local rank 2")]
    [InlineData("RANK", "2", "global rank 2")]
    public void Make_RankThatDoesNotFit_IsRefused(string name, string value, string expected)
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 1, TorchrunOnOneMachine.With(name, value).Variable));
        Assert.Contains($"The environment 'torchelastic' says {expected}", e.Message);
    }

    [Fact]
    public void Make_OtherWorldThanTorchruns_IsRefused()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 1, Recorded.Torchrun.Variable));
        Assert.Equal("devices", e.ParamName);
        Assert.Contains("You set `devices=2` and `numNodes=1` in Fabric, but the product (2 * 1) does not match the world size (4)", e.Message);
    }

    [Fact]
    public void Make_OtherDevicesThanSlurms_IsRefused() =>
        Assert.Contains("HINT: Set `devices=4`", Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 2, Recorded.Slurm.Variable)).Message);

    [Fact]
    public void Make_OneDeviceAmongManyProcesses_Warns()
    {
        var plan = FabricPlanner.Make("cpu", "auto", 1, 1, Recorded.OpenMpi.Variable);
        Assert.Equal((1, 0), (plan.WorldSize, plan.GlobalRank));
        Assert.Contains("has 2 processes, but each trains alone", Assert.Single(plan.Warnings));
    }

    [Fact]
    public void Make_EnvironmentGiven_BeatsTheDetected()
    {
        var plan = FabricPlanner.Make("cpu", "ddp", 2, 1, Recorded.Slurm.Variable, plugins: [new OwnEnvironment()]);
        Assert.IsType<OwnEnvironment>(plan.Environment);
        Assert.Equal((1, 1), (plan.LocalRank, plan.GlobalRank));
    }

    [Fact]
    public void Make_DetectedOneIsBroken_EnvironmentGivenStillWorks() =>
        Assert.Equal(2, FabricPlanner.Make("cpu", "ddp", 2, 1, Recorded.Slurm.With("SLURM_PROCID", null).Variable, plugins: [new OwnEnvironment()]).WorldSize);

    [Fact]
    public void Fabric_EnvironmentGiven_IsUsed()
    {
        using var fabric = new Fabric("cpu", "ddp", 2, plugins: [new OwnEnvironment()]);
        Assert.Equal((1, 1, 0, 2), (fabric.GlobalRank, fabric.LocalRank, fabric.NodeRank, fabric.WorldSize));
    }

    [Theory]
    [InlineData(0, "once", 1)]
    [InlineData(1, "never", 0)]
    public void Fabric_Warnings_AreShownOnceOnRankZero(int rank, string text, int expected)
    {
        var (before, shown) = (Console.Error, new StringWriter());
        Console.SetError(shown);
        try
        {
            for (var i = 0; i < 2; i++)
            {
                using var fabric = new Fabric("cpu", "ddp", 2, plugins: [new OwnEnvironment(rank, text)]);
            }
        }
        finally
        {
            Console.SetError(before);
        }

        Assert.Equal(expected, shown.ToString().Split($"FabricSharp: {text}").Length - 1);
    }

    [Fact]
    public void Make_TwoEnvironments_AreRefused()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 1, RecordedVariables.None, plugins: [new OwnEnvironment(), new OwnEnvironment()]));
        Assert.Equal("plugins", e.ParamName);
        Assert.Contains("Received multiple values for ClusterEnvironment flags in `plugins`: OwnEnvironment, OwnEnvironment", e.Message);
    }

    [Theory]
    [InlineData(typeof(object), "Object")]
    [InlineData(typeof(CpuAccelerator), "CpuAccelerator")]
    [InlineData(null, "null")]
    public void Make_PluginOfNoKnownKind_IsRefused(Type? type, string expected)
    {
        var plugin = type is null ? null : Activator.CreateInstance(type);
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 1, RecordedVariables.None, plugins: [plugin!]));
        Assert.Equal("plugins", e.ParamName);
        Assert.Contains($"Found invalid type for plugin {expected}. Expected one of: PrecisionPlugin, ClusterEnvironment.", e.Message);
    }

    [Fact]
    public void Make_OneVisibleGpuPerProcess_AsksNoMore()
    {
        var plan = FabricPlanner.Make(new OneVisibleGpu(), new SharedStrategy(), 2, 1, TorchrunOnOneMachine.Variable);
        Assert.Equal([0, 0], plan.Devices);
        Assert.Throws<ArgumentException>(() => FabricPlanner.Make(new OneVisibleGpu(), new SharedStrategy(), 2, 1, RecordedVariables.None));
    }

    private sealed class OwnEnvironment(int rank = 1, string? warning = null) : ClusterEnvironment
    {
        public override string Name => "own";

        public override bool CreatesProcessesExternally => true;

        public override string MainAddress => "127.0.0.1";

        public override int MainPort => 29500;

        public override int LocalRank => rank;

        public override int NodeRank => 0;

        public override int? WorldSize => 2;

        public override IReadOnlyList<string> Warnings => warning is null ? [] : [warning];
    }

    private sealed class OneVisibleGpu : Accelerator
    {
        public override string Name => "one";

        internal override TorchSharp.DeviceType DeviceType => TorchSharp.DeviceType.CPU;

        public override bool IsAvailable => true;

        public override int AutoDeviceCount => 1;

        internal override IReadOnlyList<int> Resolve(DeviceSelection devices) =>
            devices.Count == 1 ? [0] : throw new ArgumentException("You requested gpu: [0, 1]\n But your machine only has: [0]", nameof(devices));

        internal override TorchSharp.torch.Device DeviceAt(int index) => TorchSharp.torch.CPU;
    }

    private sealed class SharedStrategy : Strategy
    {
        public override string Name => "shared";

        public override bool IsDistributed => true;
    }
}
