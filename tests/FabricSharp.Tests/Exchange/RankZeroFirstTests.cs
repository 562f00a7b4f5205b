using System.Collections.Concurrent;
using FabricSharp.Collectives;
using FabricSharp.Strategies;

namespace FabricSharp.Tests.Exchange;

public class RankZeroFirstTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void RankZeroFirst_Bodies_RunAfterRankZeros(bool local)
    {
        var order = new ConcurrentQueue<string>();
        Ranks.Run(3, fabric =>
        {
            using (fabric.RankZeroFirst(local))
            {
                order.Enqueue($"in {Kind(fabric)}");
                order.Enqueue($"out {Kind(fabric)}");
            }

            order.Enqueue("after");
        });
        Assert.Equal(["in 0", "out 0"], order.Take(2));
        Assert.Equal(4, order.Skip(2).Take(4).Count(entry => entry.EndsWith("other", StringComparison.Ordinal)));
        Assert.Equal(["after", "after", "after"], order.Skip(6));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void RankZeroFirst_OneRankThrowsInside_NobodyWaitsForEver(int failing) => Ranks.Run(2, fabric =>
    {
        var thrown = false;
        try
        {
            using (fabric.RankZeroFirst())
                if (fabric.GlobalRank == failing)
                    throw new InvalidDataException();
        }
        catch (InvalidDataException)
        {
            thrown = true;
        }

        Assert.Equal(fabric.GlobalRank == failing, thrown);
        fabric.Barrier();
    });

    [Fact]
    public void RankZeroFirst_RankZeroTakesLongerThanTheTimeout_IsWaitedFor()
    {
        using var never = new ManualResetEventSlim();
        Ranks.Run(
            2,
            fabric =>
            {
                using (fabric.RankZeroFirst())
                    if (fabric.GlobalRank == 0)
                        never.Wait(TimeSpan.FromSeconds(1.5));
            },
            new DDPStrategy(timeout: TimeSpan.FromSeconds(0.5), startMethod: StartMethod.Notebook));
    }

    [Fact]
    public void RankZeroFirst_CollectiveInside_IsAMismatch() =>
        Assert.ThrowsAny<DistributedException>(() => Ranks.Run(2, fabric =>
        {
            using (fabric.RankZeroFirst())
                fabric.AllReduce(1.0);
        }));

    [Fact]
    public void RankZeroFirst_OneProcess_DoesNothing()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        using (fabric.RankZeroFirst())
        using (fabric.RankZeroFirst(local: true))
            fabric.Barrier();
    }

    private static string Kind(Fabric fabric) => fabric.GlobalRank == 0 ? "0" : "other";
}
