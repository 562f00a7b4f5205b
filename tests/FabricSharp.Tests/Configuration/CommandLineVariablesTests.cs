using FabricSharp.Accelerators;
using FabricSharp.Configuration;
using FabricSharp.Strategies;
using static FabricSharp.Tests.Configuration.RecordedVariables;

namespace FabricSharp.Tests.Configuration;

/// <summary>LT_ACCELERATOR, LT_STRATEGY, LT_DEVICES, LT_NUM_NODES, and LT_CLI_USED.</summary>
public class CommandLineVariablesTests
{
    private static readonly (string, string) CliUsed = ("LT_CLI_USED", "1");

    [Fact]
    public void Make_VariablesAndDefaults_GivesTheVariables()
    {
        var plan = FabricPlanner.Make(default, default, default, 1, Of(("LT_ACCELERATOR", "cpu"), ("LT_STRATEGY", "ddp_spawn"), ("LT_DEVICES", "3")));
        Assert.IsType<CpuAccelerator>(plan.Accelerator);
        Assert.Equal(StartMethod.Spawn, Assert.IsType<DDPStrategy>(plan.Strategy).StartMethod);
        Assert.Equal(3, plan.WorldSize);
    }

    [Fact]
    public void Make_NodesVariable_IsUsed()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 1, Of(("LT_NUM_NODES", "2"))));
        Assert.Contains("numNodes=2", e.Message); // refused without mpirun: so it was read
    }

    [Theory]
    [InlineData("0")]
    [InlineData("-1")]
    [InlineData("1.5")]
    [InlineData("two")]
    public void Make_MalformedNodesVariable_IsRefused(string text)
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 1, Of(("LT_NUM_NODES", text))));
        Assert.Equal("numNodes", e.ParamName);
        Assert.Contains(text, e.Message);
    }

    [Fact]
    public void Make_EmptyVariables_AreAsUnset()
    {
        var plan = FabricPlanner.Make("cpu", default, default, 1, Of(("LT_ACCELERATOR", ""), ("LT_STRATEGY", ""), ("LT_DEVICES", ""), ("LT_NUM_NODES", "")));
        Assert.IsType<SingleDeviceStrategy>(plan.Strategy);
    }

    [Fact]
    public void Make_ExplicitAuto_IsTheDefault()
    {
        var variables = Of(("LT_ACCELERATOR", "cpu"), ("LT_STRATEGY", "ddp_spawn"), ("LT_DEVICES", "3"), CliUsed);
        var plan = FabricPlanner.Make("auto", "auto", "auto", 1, variables);
        Assert.Equal((StartMethod.Spawn, 3), (Assert.IsType<DDPStrategy>(plan.Strategy).StartMethod, plan.WorldSize));
    }

    [Fact]
    public void Make_ArgumentAgainstVariableWithoutCli_GivesTheArgument()
    {
        var plan = FabricPlanner.Make("cpu", "ddp_notebook", 2, 1, Of(("LT_STRATEGY", "ddp_spawn"), ("LT_DEVICES", "3")));
        Assert.Equal((StartMethod.Notebook, 2), (((DDPStrategy)plan.Strategy).StartMethod, plan.WorldSize));
    }

    public static TheoryData<string, string, string> Conflicts => new()
    {
        { "LT_ACCELERATOR", "cuda", "accelerator=cpu" },
        { "LT_STRATEGY", "ddp_spawn", "strategy=ddp" },
        { "LT_DEVICES", "4", "devices=2" },
        { "LT_DEVICES", "0,1", "devices=2" },
    };

    [Theory]
    [MemberData(nameof(Conflicts))]
    public void Make_ArgumentAgainstVariableOfTheCli_IsAConflict(string name, string value, string argument)
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 1, Of((name, value), CliUsed)));
        Assert.Equal(argument[..argument.IndexOf('=')], e.ParamName);
        Assert.Contains($"`Fabric({argument}, ...)`", e.Message);
        Assert.Contains($"={value}` set through the CLI", e.Message);
    }

    [Fact]
    public void Make_NodesAgainstVariableOfTheCli_IsAConflict()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", 2, 3, Of(("LT_NUM_NODES", "2"), CliUsed)));
        Assert.Contains("`Fabric(numNodes=3, ...)`", e.Message);
    }

    [Fact]
    public void Make_StrategyObjectAgainstVariableOfTheCli_IsAConflict()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", new DDPStrategy(), 2, 1, Of(("LT_STRATEGY", "ddp"), CliUsed)));
        Assert.Contains("DDPStrategy", e.Message);
    }

    [Fact]
    public void Make_ArgumentsEqualToThoseOfTheCli_AreNoConflict()
    {
        var variables = Of(("LT_ACCELERATOR", "cpu"), ("LT_STRATEGY", "ddp"), ("LT_DEVICES", "2"), ("LT_NUM_NODES", "1"), CliUsed);
        Assert.Equal(2, FabricPlanner.Make("cpu", "ddp", 2, 1, variables).WorldSize);
        Assert.Equal(2, FabricPlanner.Make("CPU", "DDP", 2, 1, variables).WorldSize);
    }

    [Fact]
    public void Make_DeviceNumbersEqualToThoseOfTheCli_AreNoConflict()
    {
        var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make("cpu", "ddp", new[] { 0, 1 }, 1, Of(("LT_DEVICES", "0,1"), CliUsed)));
        Assert.Contains("CpuAccelerator", e.Message); // refused for the processor, but not as a conflict
    }
}
