using FabricSharp.Collectives;
using FabricSharp.Strategies;
using FabricSharp.Testing;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Testing;

public class RankThreadsTests
{
    [Fact]
    public void Run_Ranks_GiveTheirResultsInOrder()
    {
        Assert.Equal([10, 11, 12], RankThreads.Run(3, fabric => 10 + fabric.GlobalRank));
        Assert.Equal([3, 3], RankThreads.RunGroup(2, group =>
        {
            var sum = tensor(group.Rank + 1);
            group.AllReduce(sum).Wait();
            return sum.item<int>();
        }));
    }

    [Fact]
    public void Run_SettingsOfTheStrategy_AreKept() => RankThreads.Run(2, fabric =>
    {
        var strategy = Assert.IsType<DDPStrategy>(fabric.Strategy);
        Assert.Equal((true, 3.0, StartMethod.Notebook), (strategy.FindUnusedParameters, strategy.BucketCapMb, strategy.StartMethod));
    }, new DDPStrategy(findUnusedParameters: true, bucketCapMb: 3));

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Run_OneRankFails_IsNamedWithItsFailureNotTheOthers(bool withFabric)
    {
        var failure = Assert.Throws<RankFailedException>(() =>
        {
            if (withFabric)
                RankThreads.Run(3, fabric =>
                {
                    if (fabric.GlobalRank == 1)
                        throw new FormatException("sample 17");
                    fabric.Barrier();
                });
            else
                RankThreads.RunGroup(3, group =>
                {
                    if (group.Rank == 1)
                        throw new FormatException("sample 17");
                    group.Barrier().Wait();
                });
        });
        Assert.Equal(1, failure.Rank);
        Assert.IsType<FormatException>(failure.InnerException);
        Assert.StartsWith("Rank 1 of 3 failed: FormatException: sample 17", failure.Message);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Run_RankThatDoesNotEnd_IsNamedAndTheOthersEnd(bool withFabric)
    {
        using var released = new ManualResetEventSlim();
        var limit = TimeSpan.FromSeconds(1);
        using var ended = new CountdownEvent(1);
        void Body(int rank, Action meet)
        {
            if (rank == 1)
                released.Wait(TimeSpan.FromSeconds(20));
            else
                try
                {
                    meet();
                }
                catch (DistributedException)
                {
                    ended.Signal();
                    throw;
                }
        }

        var failure = Assert.Throws<TimeoutException>(() =>
        {
            if (withFabric)
                RankThreads.Run(2, fabric => Body(fabric.GlobalRank, fabric.Barrier), limit: limit);
            else
                RankThreads.RunGroup(2, group => Body(group.Rank, () => group.Barrier().Wait(TimeSpan.FromSeconds(20))), limit);
        });
        Assert.True(ended.Wait(TimeSpan.FromSeconds(10)));
        released.Set();
        Assert.Contains("1 of 2 did not end within 1 s", failure.Message);
    }

    [Fact]
    public void Run_ImpossibleNumbers_AreRefused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => RankThreads.Run(0, _ => { }));
        Assert.Throws<ArgumentOutOfRangeException>(() => RankThreads.RunGroup(1, _ => { }, TimeSpan.Zero));
    }
}
