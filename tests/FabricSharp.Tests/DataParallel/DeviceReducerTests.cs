using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>The reducer over the nccl back end (a simulated NCCL): what goes wrong goes wrong on all ranks, in time.</summary>
public class DeviceReducerTests
{
    [Fact]
    public void Backward_UnusedParameterWithoutTheFlag_IsTheDocumentedErrorOnAll()
    {
        var failures = Replica<Branchy>.RunEach("nccl", 2, () => new Branchy(), replica =>
        {
            replica.Pass(Branchy.Loss("a", replica.Rank));
            replica.Reducer.BeforeStep();
        });
        Assert.All(failures, failure => Assert.StartsWith("Expected to have finished reduction", Assert.IsType<UnfinishedReductionException>(failure).Message));
    }

    [Fact]
    public void Backward_OneRankFails_EndsTheOthersWait()
    {
        var failures = Replica<Branchy>.RunEach("nccl", 2, () => new Branchy(), replica =>
        {
            if (replica.Rank == 1)
            {
                replica.Group.Abort("out of memory");
                return;
            }

            replica.Pass(Branchy.Loss("a", replica.Rank));
        }, new DDPOptions { FindUnusedParameters = true });
        Assert.Equal("out of memory", Assert.IsType<PeerFailedException>(failures[0]).Reason);
    }

    [Fact]
    public void Backward_RankThatDoesNotCome_TimesOutAndNamesIt()
    {
        var failures = Replica<Branchy>.RunEach("nccl", 2, () => new Branchy(), replica =>
        {
            if (replica.Rank == 0)
                replica.Pass(Branchy.Loss("a", replica.Rank));
        }, new DDPOptions { FindUnusedParameters = true, Timeout = TimeSpan.FromMilliseconds(300) });
        Assert.Contains("rank 1 did not call it", Assert.IsType<DistributedTimeoutException>(failures[0]).Message);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Steps_Many_LeaveNoTensors(bool hooks)
    {
        var failures = Replica<Branchy>.RunEach("nccl", 2, () => new Branchy(), replica =>
        {
            long before = 0;
            for (var step = 0; step < 60; step++)
            {
                using (var scope = NewDisposeScope())
                {
                    replica.ZeroGradients();
                    replica.Pass(Branchy.Loss(step % 2 == 0 ? "ab" : "c", replica.Rank, step));
                }

                replica.Group.Barrier().Wait();
                if (step == 20 && replica.Rank == 0)
                    before = Tensor.TotalCount;
                replica.Group.Barrier().Wait();
            }

            if (replica.Rank == 0)
                Assert.InRange(Tensor.TotalCount - before, long.MinValue, 15);
        }, new DDPOptions { FindUnusedParameters = true, UsesGradientHooks = hooks });
        Assert.All(failures, Assert.Null);
    }
}
