using FabricSharp.Configuration;
using FabricSharp.Strategies;

namespace FabricSharp.Tests.Configuration;

public class StrategyNameTests
{
    public static TheoryData<string, StartMethod, bool> DataParallelNames => new()
    {
        { "ddp", StartMethod.Popen, false },
        { "ddp_find_unused_parameters_false", StartMethod.Popen, false },
        { "ddp_find_unused_parameters_true", StartMethod.Popen, true },
        { "ddp_spawn", StartMethod.Spawn, false },
        { "ddp_spawn_find_unused_parameters_false", StartMethod.Spawn, false },
        { "ddp_spawn_find_unused_parameters_true", StartMethod.Spawn, true },
        { "ddp_notebook", StartMethod.Notebook, false },
        { "ddp_notebook_find_unused_parameters_false", StartMethod.Notebook, false },
        { "ddp_notebook_find_unused_parameters_true", StartMethod.Notebook, true },
    };

    [Theory]
    [MemberData(nameof(DataParallelNames))]
    public void Make_RegisteredName_GivesClassStartMethodAndFlag(string name, StartMethod start, bool findsUnused)
    {
        var strategy = Assert.IsType<DDPStrategy>(Plan(name).Strategy);
        Assert.Equal(start, strategy.StartMethod);
        Assert.Equal(findsUnused, strategy.FindUnusedParameters);
    }

    [Theory]
    [MemberData(nameof(DataParallelNames))]
    public void Make_NameInOtherCase_GivesTheSameStrategy(string name, StartMethod start, bool findsUnused)
    {
        foreach (var spelling in new[] { name.ToUpperInvariant(), char.ToUpperInvariant(name[0]) + name[1..] })
        {
            var strategy = Assert.IsType<DDPStrategy>(Plan(spelling).Strategy);
            Assert.Equal((start, findsUnused), (strategy.StartMethod, strategy.FindUnusedParameters));
        }
    }

    [Fact]
    public void Available_Always_IsTheTableAboveAndAuto()
    {
        var expected = DataParallelNames.Select(row => row.Data.Item1).Append("auto").Order(StringComparer.Ordinal);
        Assert.Equal(expected, StrategyRegistry.Available.Where(name => !name.StartsWith(RegistrationTests.Prefix, StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData("ddp_find_unused_parameters_true", true)]
    [InlineData("ddp", false)]
    public void Make_StringAndObjectForm_GiveTheSameOptions(string name, bool findsUnused)
    {
        var byName = (DDPStrategy)Plan(name).Strategy;
        var byObject = (DDPStrategy)Plan(new DDPStrategy(findUnusedParameters: findsUnused)).Strategy;
        foreach (var property in typeof(DDPStrategy).GetProperties())
            Assert.Equal(property.GetValue(byObject), property.GetValue(byName));
    }

    [Fact]
    public void Constructor_ArgumentsAndInitProperties_AreTheSameThing()
    {
        var limit = TimeSpan.FromSeconds(7);
        var byArguments = new DDPStrategy(true, true, false, false, 3.5, "shm", limit, StartMethod.Spawn);
        var byProperties = new DDPStrategy
        {
            FindUnusedParameters = true,
            StaticGraph = true,
            GradientAsBucketView = false,
            BroadcastBuffers = false,
            BucketCapMb = 3.5,
            ProcessGroupBackend = "shm",
            Timeout = limit,
            StartMethod = StartMethod.Spawn,
        };
        foreach (var property in typeof(DDPStrategy).GetProperties())
            Assert.Equal(property.GetValue(byArguments), property.GetValue(byProperties));
    }

    [Fact]
    public void Make_UnknownName_ListsAllAndGuesses()
    {
        var e = Assert.Throws<ArgumentException>(() => Plan("ddp_find_unused_paramters_true"));
        Assert.Equal("strategy", e.ParamName);
        Assert.Contains("`strategy='ddp_find_unused_paramters_true'`", e.Message);
        Assert.Contains("Did you mean 'ddp_find_unused_parameters_true'?", e.Message);
        Assert.All(StrategyRegistry.Available, name => Assert.Contains(name, e.Message));
    }

    [Fact]
    public void Make_NameLikeNoOther_ListsAllWithoutGuess()
    {
        var e = Assert.Throws<ArgumentException>(() => Plan("fully_sharded_everything"));
        Assert.DoesNotContain("Did you mean", e.Message);
        Assert.Contains("ddp_notebook", e.Message);
    }

    [Theory]
    [InlineData("ddp_fork")]
    [InlineData("DDP_Fork")]
    [InlineData("ddp_fork_find_unused_parameters_true")]
    [InlineData("ddp_fork_find_unused_parameters_false")]
    public void Make_ForkName_ExplainsWhyNotAndWhatElse(string name)
    {
        var e = Assert.Throws<ArgumentException>(() => Plan(name));
        Assert.Equal("strategy", e.ParamName);
        Assert.Contains($"strategy='{name}'", e.Message);
        Assert.Contains("cannot be forked", e.Message);
        Assert.Contains("'ddp_spawn'", e.Message);
    }

    [Fact]
    public void Choice_Null_IsRefused()
    {
        Assert.Throws<ArgumentNullException>(() => (StrategyChoice)(string)null!);
        Assert.Throws<ArgumentNullException>(() => (StrategyChoice)(Strategy)null!);
        Assert.Throws<ArgumentNullException>(() => (AcceleratorChoice)(string)null!);
    }

    private static FabricPlan Plan(StrategyChoice strategy) => FabricPlanner.Make("cpu", strategy, 2, 1, RecordedVariables.None);
}
