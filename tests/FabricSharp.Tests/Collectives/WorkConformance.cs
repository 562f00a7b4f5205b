using FabricSharp.Collectives;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives;

/// <summary>What every back end promises of works that are under way.</summary>
public abstract class WorkConformance
{
    protected abstract string Backend { get; }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Wait_ManyInFlight_InAnyOrder(bool backwards) => Run(3, group =>
    {
        var tensors = Enumerable.Range(0, 150).Select(i => full(i % 3 == 0 ? 100_000 : i, (double)i, ScalarType.Float32)).ToArray();
        var works = tensors.Select(t => group.AllReduce(t)).ToArray();
        foreach (var i in backwards ? Enumerable.Range(0, 150).Reverse() : Enumerable.Range(0, 150))
        {
            works[i].Wait();
            Assert.True(works[i].IsCompleted);
            Assert.Null(works[i].Exception);
            Assert.True(tensors[i].eq(3 * i).all().item<bool>(), $"work {i}");
        }
    });

    [Fact]
    public void Wait_MixedKindsInFlight_EachGetsItsOwn() => Run(2, group =>
    {
        var reduced = full(50_000, group.Rank + 1.0);
        var gathered = zeros(2, 3);
        var sent = full(70_000, (double)group.Rank);
        var works = new[] { group.AllReduce(reduced), group.AllGather(gathered, full(3, group.Rank + 1.0)), group.Barrier(), group.Broadcast(sent, 1) };
        works[3].Wait();
        works[0].Wait();
        works[1].Wait();
        works[2].Wait();
        Assert.Equal((150_000.0, 9.0, 70_000.0), (reduced.sum().ToDouble(), gathered.sum().ToDouble(), sent.sum().ToDouble()));
    });

    [Fact]
    public void Wait_Twice_IsHarmless() => Run(2, group =>
    {
        var strided = ones(4, 4).t();
        var work = group.AllReduce(strided);
        work.Wait();
        strided.fill_(7);
        work.Wait();
        Assert.True(work.IsCompleted);
        Assert.Equal(7 * 16, strided.sum().ToDouble()); // the result is not brought again
    });

    [Fact]
    public void IsCompleted_Polled_BecomesTrueWithTheResult() => Run(2, group =>
    {
        var strided = ones(4, 400).t();
        var work = group.AllReduce(strided);
        Assert.True(SpinWait.SpinUntil(() => work.IsCompleted, GroupOfThreads.Limit));
        Assert.Equal(2 * 1600, strided.sum().ToDouble());
    });

    [Fact]
    public void IsCompleted_OtherRankHasNotCalled_IsFalse()
    {
        using var looked = new ManualResetEventSlim();
        Run(2, group =>
        {
            if (group.Rank == 1)
                Assert.True(looked.Wait(GroupOfThreads.Limit));
            var work = group.Barrier();
            if (group.Rank == 0)
            {
                Assert.False(work.IsCompleted);
                Assert.Null(work.Exception);
                looked.Set();
            }

            work.Wait();
        });
    }

    [Fact]
    public void Await_Work_GivesTheResult() => Run(2, group =>
    {
        async Task<double> Sum()
        {
            var t = full(100_000, 1.0);
            await group.AllReduce(t);
            return t.sum().ToDouble();
        }

        Assert.Equal(200_000, Sum().GetAwaiter().GetResult());
    });

    [Fact]
    public void AllReduce_UserDisposesHisReferenceMeanwhile_StillCompletes() => Run(2, group =>
    {
        var t = full(200_000, 1.0);
        using var alias = t.alias();
        var work = group.AllReduce(t);
        work.Wait();
        t.Dispose();
        Assert.Equal(400_000, alias.sum().ToDouble());
    });

    [Fact]
    public void Groups_UsedAlternately_DoNotMix()
    {
        using var store = new HashStore();
        RankThreads.Run(2, rank =>
        {
            using var first = GroupOfThreads.Create(Backend, new PrefixStore("first", store), rank, 2, GroupOfThreads.Limit);
            using var second = GroupOfThreads.Create(Backend, new PrefixStore("second", store), 1 - rank, 2, GroupOfThreads.Limit);
            using var scope = NewDisposeScope();
            Assert.Equal(1 - rank, second.Rank);
            for (var i = 0; i < 50; i++)
            {
                var (a, b) = (full(i, 1.0), full(i, 10.0 + second.Rank));
                var works = rank == 0 ? new[] { first.AllReduce(a), second.Broadcast(b, 0) } : [second.Broadcast(b, 0), first.AllReduce(a)];
                Array.ForEach(works, work => work.Wait());
                Assert.Equal((2.0 * i, 10.0 * i), (a.sum().ToDouble(), b.sum().ToDouble()));
            }
        });
    }

    [Fact]
    public void Groups_UsedFromTwoThreads_DoNotMix()
    {
        using var store = new HashStore();
        RankThreads.Run(4, thread =>
        {
            var (rank, name) = (thread % 2, thread / 2);
            using var group = GroupOfThreads.Create(Backend, new PrefixStore($"group {name}", store), rank, 2, GroupOfThreads.Limit);
            for (var i = 0; i < 100; i++)
            {
                using var t = full(20_000, name + 1.0);
                group.AllReduce(t).Wait();
                Assert.Equal(2.0 * (name + 1), t[i].ToDouble());
            }
        });
    }

    [Fact]
    public void AllReduce_ManyTimes_LeavesNoTensors() => Run(2, group =>
    {
        long before = 0;
        for (var i = 0; i < 300; i++)
        {
            using var contiguous = ones(10);
            using var strided = ones(4, 8);
            using var transposed = strided.t();
            using var output = zeros(2, 8, 4);
            group.AllReduce(contiguous).Wait();
            group.AllReduce(transposed).Wait();
            group.Broadcast(transposed, 0).Wait();
            group.AllGather(output, transposed).Wait();
            group.Barrier().Wait();
            if (i == 10 && group.Rank == 0)
                before = Tensor.TotalCount;
            group.Barrier().Wait();
        }

        if (group.Rank == 0)
            Assert.InRange(Tensor.TotalCount - before, long.MinValue, 10); // those of the other rank's loop body; earlier tests' go meanwhile
    });

    private void Run(int ranks, Action<ProcessGroup> body) => GroupOfThreads.Run(Backend, ranks, body);
}
