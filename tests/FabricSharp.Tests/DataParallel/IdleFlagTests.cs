using FabricSharp.DataParallel;
using FabricSharp.Tests.Loggers;

namespace FabricSharp.Tests.DataParallel;

/// <summary>The advice that <c>findUnusedParameters</c> has found nothing.</summary>
public class IdleFlagTests
{
    private const string Advice = "findUnusedParameters is on, but every parameter was used in each of the first 100 backward passes";

    private static readonly DDPOptions FindUnused = new() { FindUnusedParameters = true };

    [Fact]
    public void FlagOn_NothingUnused_IsAdvisedOfOnceOnRankZero()
    {
        var text = StandardError.Of(() => Replica<Branchy>.Run(2, () => new Branchy(), replica => Passes(replica, 99, "abc"), FindUnused));
        Assert.DoesNotContain(Advice, text);
        text = StandardError.Of(() => Replica<Branchy>.Run(2, () => new Branchy(), replica => Passes(replica, 205, "abc"), FindUnused));
        Assert.Equal(2, text.Split(Advice).Length); // once, not on each rank
        Assert.Contains("strategy: \"ddp\"", text);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void FlagOn_SomethingUnusedOnce_IsNotAdvisedOf(bool onOneRankOnly) => Assert.DoesNotContain(Advice, StandardError.Of(() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        Passes(replica, 50, "abc");
        Passes(replica, 1, onOneRankOnly && replica.Rank == 0 ? "abc" : "ab");
        Passes(replica, 60, "abc");
    }, FindUnused)));

    private static void Passes(Replica<Branchy> replica, int count, string take)
    {
        for (var step = 0; step < count; step++)
            replica.Pass(Branchy.Loss(take, replica.Rank, step));
    }
}
