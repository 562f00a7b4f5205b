using FabricSharp.Configuration;
using FabricSharp.Strategies;

namespace FabricSharp.Tests.Configuration;

/// <summary>The registry is one for the process and forgets nothing: names that tests add begin with <see cref="Prefix"/>.</summary>
public class RegistrationTests
{
    public const string Prefix = "registered_by_a_test_";

    [Fact]
    public void Register_NewName_IsListedAndMakesAFreshStrategyEachTime()
    {
        var name = NewName();
        StrategyRegistry.Register(name, () => new DDPStrategy(bucketCapMb: 3), "A test's.");
        Assert.Contains(name, StrategyRegistry.Available);
        var (first, second) = (Make(name), Make(name.ToUpperInvariant()));
        Assert.Equal(3, Assert.IsType<DDPStrategy>(first).BucketCapMb);
        Assert.NotSame(first, second);
    }

    [Theory]
    [InlineData("ddp")]
    [InlineData("DDP")]
    [InlineData("auto")]
    [InlineData("ddp_fork")]
    public void Register_TakenName_IsRefused(string name)
    {
        var e = Assert.Throws<ArgumentException>(() => StrategyRegistry.Register(name, () => new DDPStrategy(), ""));
        Assert.Contains($"'{name}' is already present in the registry.", e.Message);
    }

    [Fact]
    public void Register_EmptyNameOrNoFactory_IsRefused()
    {
        Assert.Throws<ArgumentException>(() => StrategyRegistry.Register(" ", () => new DDPStrategy(), ""));
        Assert.Throws<ArgumentNullException>(() => StrategyRegistry.Register(NewName(), null!, ""));
    }

    private static string NewName() => Prefix + Guid.NewGuid().ToString("N");

    private static Strategy Make(string name) => FabricPlanner.Make("cpu", name, 2, 1, RecordedVariables.None).Strategy;
}
