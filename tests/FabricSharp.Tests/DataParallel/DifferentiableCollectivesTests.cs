using System.Runtime.InteropServices;
using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Tests.Collectives;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

public class DifferentiableCollectivesTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void AllGatherWithGradient_LossUsesEverySlice_OwnSliceGetsTheSumOfAllRanksGradients(int ranks) => Run(ranks, group =>
    {
        var input = full([2, 3], group.Rank + 1.0, requires_grad: true);
        var all = group.AllGatherWithGradient(input);
        Assert.Equal([ranks, 2L, 3L], all.shape);
        for (var rank = 0; rank < ranks; rank++)
            Assert.True(all[rank].eq(rank + 1).all().item<bool>());

        // rank q weighs slice r by (q + 1) · 10^r
        var loss = zeros(1);
        for (var rank = 0; rank < ranks; rank++)
            loss = loss + all[rank].sum() * (group.Rank + 1) * Math.Pow(10, rank);
        loss.backward();
        Assert.True(input.grad!.eq(ranks * (ranks + 1) / 2 * Math.Pow(10, group.Rank)).all().item<bool>(), input.grad!.str());
    });

    [Fact]
    public void AllGatherWithGradient_OneRanksLossDoesNotUseIt_ItsGradientIsZero() => Run(2, group =>
    {
        var input = ones(3).requires_grad_();
        var all = group.AllGatherWithGradient(input);
        (group.Rank == 0 ? (all * 0).sum() : all.sum()).backward();
        Assert.True(input.grad!.eq(1).all().item<bool>());
    });

    [Theory]
    [InlineData(true, 1.5)]
    [InlineData(false, 3.0)]
    public void AllReduceWithGradient_SumOrAverage_CombinesGradientsInTheSameWay(bool average, double expected) => Run(2, group =>
    {
        var op = average ? ReduceOp.Average : ReduceOp.Sum;
        var input = full(4, group.Rank + 1.0, requires_grad: true);
        var result = group.AllReduceWithGradient(input, op);
        Assert.True(result.eq(expected).all().item<bool>());
        Assert.True(input.eq(group.Rank + 1).all().item<bool>());
        (result * (group.Rank + 1)).sum().backward();
        Assert.True(input.grad!.eq(expected).all().item<bool>());
        Assert.Contains("Sum and Average only", Assert.Throws<ArgumentException>(() => group.AllReduceWithGradient(input, ReduceOp.Max)).Message);
    });

    [Fact]
    public void AllGatherWithGradient_NothingRequiresAGradient_RecordsNothing() => Run(2, group =>
    {
        Assert.False(group.AllGatherWithGradient(ones(2)).requires_grad);
        using (no_grad())
            Assert.False(group.AllGatherWithGradient(ones(2).requires_grad_()).requires_grad);
    });

    [Fact]
    public void AllGather_OfFabricWithGradients_FlowsBack()
    {
        using var fabric = new Fabric("cpu", "ddp_notebook", 2);
        fabric.Launch(rank =>
        {
            var input = ones(2).requires_grad_();
            rank.AllGather(input, syncGrads: true).sum().backward();
            Assert.True(input.grad!.eq(2).all().item<bool>());
            Assert.False(rank.AllGather(input, syncGrads: false).requires_grad);
            return 0;
        });
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public void Backward_PeerIsGone_ThrowsThereAndAtTheNextForward(int dimensions)
    {
        var failures = GroupOfThreads.RunEach("shm", 2, group =>
        {
            using var scope = NewDisposeScope();
            var input = ones(Enumerable.Repeat(1L, dimensions).ToArray()).requires_grad_();
            var loss = group.AllGatherWithGradient(input).sum();
            if (group.Rank == 1)
                throw new InvalidDataException("bad sample");
            group.Abort("nothing more comes");
            Assert.Throws<ExternalException>(() => loss.backward());
            Assert.IsAssignableFrom<DistributedException>(GuardedBackward.FailureOf(group));
            var again = Assert.ThrowsAny<DistributedException>(() => group.AllGatherWithGradient(input));
            Assert.Same(GuardedBackward.FailureOf(group), again);
        });
        Assert.Null(failures[0]);
    }

    [Fact]
    public void Backward_ThroughFabricAndAPeerFails_ThrowsTheCause()
    {
        var seen = default(Exception);
        Assert.Throws<InvalidDataException>(() =>
        {
            using var fabric = new Fabric("cpu", "ddp_notebook", 2);
            fabric.Launch<int>(rank =>
            {
                rank.Setup(nn.Linear(1, 1));
                var loss = rank.AllGather(ones(2).requires_grad_(), syncGrads: true).sum();
                if (rank.GlobalRank == 1)
                    throw new InvalidDataException("bad sample");
                seen = Record.Exception(() => rank.Backward(loss));
                throw seen!;
            });
        });
        Assert.Equal("InvalidDataException: bad sample", Assert.IsType<PeerFailedException>(seen).Reason);
    }

    [Fact]
    public void ForwardAndBackward_ManyTimes_LeaveNoTensors() => Run(2, group =>
    {
        var input = ones(64).requires_grad_();
        long Left()
        {
            var statistics = DisposeScopeManager.Statistics;
            return statistics.ThreadTotalLiveCount;
        }

        void Pass()
        {
            using var scope = NewDisposeScope();
            group.AllGatherWithGradient(input).sum().backward();
            group.AllReduceWithGradient(input).sum().backward();
        }

        Pass();
        var before = Left();
        for (var i = 0; i < 50; i++)
            Pass();
        Assert.Equal(before, Left());
    });

    private static void Run(int ranks, Action<ProcessGroup> body) => GroupOfThreads.Run("shm", ranks, group =>
    {
        using var scope = NewDisposeScope();
        body(group);
        group.Barrier().Wait();
    });
}
