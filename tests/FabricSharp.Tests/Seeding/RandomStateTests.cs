using System.Text.Json;
using FabricSharp.Seeding;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Seeding;

public class RandomStateTests
{
    [Fact]
    public void Restore_OfACollectedState_GivesTheSameNextNumbers()
    {
        var state = RandomState.Collect();
        var first = randn(5).data<float>().ToArray();
        state.Restore();
        Assert.Equal(first, randn(5).data<float>().ToArray());
    }

    [Fact]
    public void Restore_AfterJson_GivesTheSameNextNumbers()
    {
        var json = JsonSerializer.Serialize(RandomState.Collect());
        var first = rand(3).data<float>().ToArray();
        JsonSerializer.Deserialize<RandomState>(json)!.Restore();
        Assert.Equal(first, rand(3).data<float>().ToArray());
    }

    [Fact]
    public void Restore_OtherBytes_IsRefused() =>
        Assert.Contains("has 3", Assert.Throws<ArgumentException>(new RandomState([1, 2, 3]).Restore).Message, StringComparison.Ordinal);
}
