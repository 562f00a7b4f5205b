using System.Text.RegularExpressions;
using FabricSharp.Collectives;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives;

/// <summary>How every back end fails: on all ranks, in time, saying who did what.</summary>
public abstract class GroupFailureConformance
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(150);

    private static readonly Dictionary<string, Func<ProcessGroup, Work>> Calls = new()
    {
        ["sum"] = group => group.AllReduce(ones(10)),
        ["sum of another count"] = group => group.AllReduce(ones(11)),
        ["sum of many"] = group => group.AllReduce(ones(100_000)),
        ["sum of more"] = group => group.AllReduce(ones(100_001)),
        ["sum of doubles"] = group => group.AllReduce(ones(10, ScalarType.Float64)),
        ["maximum"] = group => group.AllReduce(ones(10), ReduceOp.Max),
        ["scaled by 2"] = group => group.AllReduce(ones(10), ReduceOp.PreMulSum(2)),
        ["scaled by 3"] = group => group.AllReduce(ones(10), ReduceOp.PreMulSum(3)),
        ["from 0"] = group => group.Broadcast(ones(10), 0),
        ["from 1"] = group => group.Broadcast(ones(10), 1),
        ["gather"] = group => group.AllGather(zeros(group.Size, 10), ones(10)),
        ["gather of another count"] = group => group.AllGather(zeros(group.Size, 9), ones(9)),
        ["barrier"] = group => group.Barrier(),
        ["to 0"] = group => group.Reduce(ones(10), 0),
        ["to 1"] = group => group.Reduce(ones(10), 1),
        ["largest to 0"] = group => group.Reduce(ones(10), 0, ReduceOp.Max),
        ["collect on 0"] = group => group.Gather(group.Rank == 0 ? zeros(group.Size, 10) : null, ones(10), 0),
        ["collect on 1"] = group => group.Gather(group.Rank == 1 ? zeros(group.Size, 10) : null, ones(10), 1),
        ["deal"] = group => group.Scatter(zeros(10), group.Rank == 0 ? zeros(group.Size, 10) : null, 0),
        ["deal bytes"] = group => group.Scatter(zeros(10, ScalarType.Byte), group.Rank == 0 ? zeros([group.Size, 10], ScalarType.Byte) : null, 0),
        ["share"] = group => group.ReduceScatter(zeros(10), zeros(group.Size, 10)),
        ["share more"] = group => group.ReduceScatter(zeros(12), zeros(group.Size, 12)),
        ["exchange"] = group => group.AllToAll(zeros(group.Size, 10), zeros(group.Size, 10)),
        ["exchange parts"] = group => group.AllToAll(zeros(group.Size, 10), Each(group, 1), zeros(group.Size, 10), Each(group, 1)),
    };

    protected abstract string Backend { get; }

    public static TheoryData<string, string, string, string> Mismatches => new()
    {
        { "sum", "sum of another count", "AllReduce(Sum) of 10 × Float32", "AllReduce(Sum) of 11 × Float32" },
        { "sum", "sum of many", "AllReduce(Sum) of 10 × Float32", "AllReduce(Sum) of 100000 × Float32" },
        { "sum of many", "sum of more", "AllReduce(Sum) of 100000 × Float32", "AllReduce(Sum) of 100001 × Float32" },
        { "sum", "sum of doubles", "Float32", "Float64" },
        { "sum", "maximum", "AllReduce(Sum)", "AllReduce(Max)" },
        { "scaled by 2", "scaled by 3", "PreMulSum(2)", "PreMulSum(3)" },
        { "from 0", "from 1", "from rank 0", "from rank 1" },
        { "from 0", "sum", "Broadcast of 10", "AllReduce(Sum) of 10" },
        { "gather", "gather of another count", "AllGather of 10", "AllGather of 9" },
        { "gather", "barrier", "AllGather of 10", "Barrier" },
        { "sum of many", "barrier", "AllReduce(Sum) of 100000", "Barrier" },
        { "to 0", "to 1", "Reduce(Sum) of 10 × Float32 to rank 0", "Reduce(Sum) of 10 × Float32 to rank 1" },
        { "to 0", "largest to 0", "Reduce(Sum)", "Reduce(Max)" },
        { "to 0", "sum", "Reduce(Sum) of 10", "AllReduce(Sum) of 10" },
        { "collect on 0", "collect on 1", "Gather of 10 × Float32 to rank 0", "Gather of 10 × Float32 to rank 1" },
        { "deal", "deal bytes", "Scatter of 10 × Float32 from rank 0", "Scatter of 10 × Byte from rank 0" },
        { "share", "share more", "ReduceScatter(Sum) of 10", "ReduceScatter(Sum) of 12" },
        { "exchange", "exchange parts", "AllToAll of 10 × Float32 to each rank", "AllToAll of Float32 with split sizes" },
        { "exchange", "barrier", "AllToAll of 10", "Barrier" },
    };

    [Theory]
    [MemberData(nameof(Mismatches))]
    public void Call_DifferentOnOneRank_IsAMismatchOnAll(string most, string last, string mostText, string lastText)
    {
        var failures = RunEach(3, group =>
        {
            group.Barrier().Wait();
            Calls[group.Rank == 2 ? last : most](group).Wait();
        });
        Assert.All(failures, failure =>
        {
            var e = Assert.IsType<CollectiveMismatchException>(failure);
            Assert.Matches($"rank 0 called [^;]*{Regex.Escape(mostText)}", e.Message);
            Assert.Matches($"rank 1 called [^;]*{Regex.Escape(mostText)}", e.Message);
            Assert.Matches($"rank 2 called [^;]*{Regex.Escape(lastText)}", e.Message);
        });
    }

    [Fact]
    public void AllToAll_SplitsThatDoNotFit_IsAMismatchOnAll()
    {
        var failures = RunEach(3, group => group.AllToAll(zeros(3, 2), Each(group, 1), zeros(group.Rank == 1 ? 4 : 3, 2), group.Rank == 1 ? [1, 1, 2] : Each(group, 1)).Wait());
        Assert.All(failures, failure => Assert.Contains("rank 1 sends 4 × Float32 to rank 2, which expects 2.", Assert.IsType<CollectiveMismatchException>(failure).Message));
    }

    [Theory]
    [InlineData(11, ScalarType.Float32)]
    [InlineData(10, ScalarType.Float64)]
    public void Recv_OtherThanWhatWasSent_IsAMismatchOnBoth(int count, ScalarType type)
    {
        var failures = RunEach(3, group =>
        {
            if (group.Rank == 0)
                group.Send(ones(10), 2, tag: 5).Wait();
            else if (group.Rank == 2)
                group.Recv(zeros(count, type), 0, tag: 5).Wait();
        });
        Assert.Null(failures[1]);
        foreach (var rank in new[] { 0, 2 })
        {
            var e = Assert.IsType<CollectiveMismatchException>(failures[rank]);
            Assert.Contains($"Rank {rank}: rank 0 sends 10 × Float32 to rank 2 with tag 5, which receives {count} × {type}", e.Message);
        }
    }

    [Fact]
    public void Recv_OfAnotherTag_TimesOutAndNamesTheSender()
    {
        var failures = RunEach(2, group =>
        {
            if (group.Rank == 0)
                group.Send(ones(10), 1, tag: 1).Wait(Short);
            else
                group.Recv(ones(10), 0, tag: 2).Wait(Short);
        });
        Assert.Contains("Send of 10 × Float32 to rank 1 with tag 1 timed out", Assert.IsType<DistributedTimeoutException>(failures[0]).Message);
        var e = Assert.IsType<DistributedTimeoutException>(failures[1]);
        Assert.Contains("Recv of 10 × Float32 from rank 0 with tag 2 timed out after 0.15 s: rank 0 did not call Send", e.Message);
    }

    [Fact]
    public void Send_BothRanksFirst_IsFoundOutBeforeTheLimit()
    {
        var failures = RunEach(2, group =>
        {
            group.Send(ones(10), 1 - group.Rank).Wait();
            group.Recv(ones(10), 1 - group.Rank).Wait();
        });
        Assert.All(failures, failure =>
        {
            var e = Assert.IsType<CollectiveMismatchException>(failure);
            Assert.Contains("rank 0 waits in Send of 10 × Float32 to rank 1", e.Message);
            Assert.Contains("rank 1 waits in Send of 10 × Float32 to rank 0", e.Message);
        });
    }

    [Fact]
    public void Recv_SenderLeaves_EndsTheWait()
    {
        using var store = new HashStore();
        var failures = RankThreads.RunEach(2, rank =>
        {
            using var group = GroupOfThreads.Create(Backend, store, rank, 2, GroupOfThreads.Limit);
            if (rank == 0)
                group.Recv(ones(10), 1).Wait();
        });
        Assert.Equal(1, Assert.IsType<PeerFailedException>(failures[0]).FailedRank);
    }

    [Fact]
    public void Send_ThenLeaving_LosesNothing()
    {
        for (var run = 0; run < 10; run++)
            GroupOfThreads.Run(Backend, 2, group =>
            {
                using var t = full(100_000, 7, ScalarType.Int32);
                if (group.Rank == 0)
                    group.Send(t, 1).Wait();
                else
                    group.Recv(t.zero_(), 0).Wait();
                Assert.Equal(7, t[99_999].ToInt32());
            });
    }

    [Theory]
    [InlineData(false, "Ranks 1 failed")]
    [InlineData(true, "Ranks 1, 3 failed")]
    public void MonitoredBarrier_RanksThatDoNotCome_AreNamed(bool all, string expected)
    {
        var failures = RunEach(4, group =>
        {
            if (group.Rank % 2 == 0)
                group.MonitoredBarrier(Short, waitAllRanks: all);
        });
        Assert.Null(failures[1]);
        foreach (var rank in new[] { 0, 2 })
            Assert.StartsWith($"Rank {rank}: {expected} to pass monitoredBarrier in 150 ms.", Assert.IsType<DistributedTimeoutException>(failures[rank]).Message);
    }

    [Fact]
    public void NewGroup_OtherListOnOneRank_IsAMismatchOnAll()
    {
        var failures = RunEach(3, group => group.NewGroup(group.Rank == 2 ? [0, 2] : [0, 1])?.Dispose());
        Assert.All(failures, failure => Assert.Contains("rank 1 called NewGroup(0, 1); rank 2 called NewGroup(0, 2)", Assert.IsType<CollectiveMismatchException>(failure).Message));
    }

    [Fact]
    public void Subgroup_Mismatch_NamesTheRanksOfBothGroups()
    {
        var failures = RunEach(3, group =>
        {
            using var sub = group.NewGroup([2, 1]);
            sub?.AllReduce(ones(group.Rank)).Wait();
        });
        var e = Assert.IsType<CollectiveMismatchException>(failures[1]);
        Assert.StartsWith("Rank 1: ", e.Message); // in both groups it is rank 1
        Assert.Contains("rank 0 (global rank 2) called AllReduce(Sum) of 2", e.Message);
        Assert.Contains("rank 1 called AllReduce(Sum) of 1", e.Message);
        Assert.StartsWith("Rank 0 (global rank 2): ", failures[2]!.Message);
    }

    [Fact]
    public void Subgroup_TimeOut_LeavesTheParentUsable()
    {
        RunEach(3, group =>
        {
            using var sub = group.NewGroup([1, 2]);
            if (group.Rank == 1)
                Assert.Contains("rank 1 (global rank 2) did not call it", Assert.Throws<DistributedTimeoutException>(() => sub!.Barrier().Wait(Short)).Message);
            group.Barrier().Wait();
        }).ToList().ForEach(Assert.Null);
    }

    [Fact]
    public void Abort_OfTheParent_EndsTheWaitInASubgroup()
    {
        var failures = RunEach(3, group =>
        {
            var sub = group.NewGroup([1, 2]);
            if (group.Rank == 2)
                group.Abort("enough");
            else if (group.Rank == 1)
                sub!.Barrier().Wait();
            sub?.Dispose();
        });
        var e = Assert.IsType<PeerFailedException>(failures[1]);
        Assert.Contains("because rank 1 (global rank 2) failed: enough", e.Message);
    }

    [Fact]
    public void Subgroup_ParentDisposedFirst_StillWorks() => RunEach(2, group =>
    {
        using var sub = group.NewGroup([1, 0])!;
        group.Barrier().Wait();
        group.Dispose();
        for (var i = 0; i < 3; i++)
            sub.AllReduce(ones(1000)).Wait();
    }).ToList().ForEach(Assert.Null);

    [Fact]
    public void Objects_OfDifferentTypes_AreAClearError()
    {
        var failures = RunEach(2, group =>
        {
            if (group.Rank == 0)
                group.BroadcastObject("text", 0);
            else
                group.BroadcastObject(1, 0);
        });
        Assert.Contains("cannot be read as System.Int32", Assert.IsType<DistributedException>(failures[1]).Message);
    }

    [Fact]
    public void Abort_OfOneRank_ReachesAllOthersWithItsReason()
    {
        var failures = RunEach(3, group =>
        {
            if (group.Rank == 1)
                group.Abort("disk full: größer");
            else
                group.AllReduce(ones(10)).Wait();
        });
        Assert.Null(failures[1]);
        foreach (var rank in new[] { 0, 2 })
        {
            var e = Assert.IsType<PeerFailedException>(failures[rank]);
            Assert.Equal((1, "disk full: größer"), (e.FailedRank, e.Reason));
            Assert.Contains("because rank 1 failed: disk full", e.Message);
        }
    }

    [Fact]
    public void Abort_WithALongReason_IsCutOff()
    {
        var failures = RunEach(2, group =>
        {
            if (group.Rank == 1)
                group.Abort(new string('x', 100_000));
            else
                group.Barrier().Wait();
        });
        Assert.InRange(Assert.IsType<PeerFailedException>(failures[0]).Reason.Length, 1000, 99_999);
    }

    [Fact]
    public void Abort_ThenACallOfTheSameRank_IsRefused()
    {
        var failures = RunEach(2, group =>
        {
            if (group.Rank == 0)
            {
                group.Abort("enough");
                group.Barrier().Wait(TimeSpan.FromSeconds(5));
            }
        });
        var e = Assert.IsType<DistributedException>(failures[0]);
        Assert.Contains("enough", e.Message);
    }

    [Fact]
    public void Wait_RankThatNeverCalls_TimesOutAndNamesIt()
    {
        var failures = RunEach(3, group =>
        {
            group.Barrier().Wait();
            if (group.Rank != 1)
                group.AllReduce(ones(10)).Wait(Short);
        });
        foreach (var rank in new[] { 0, 2 })
        {
            var e = Assert.IsType<DistributedTimeoutException>(failures[rank]);
            Assert.Contains($"Rank {rank}", e.Message);
            Assert.Contains("AllReduce(Sum) of 10 × Float32", e.Message);
            Assert.Contains("rank 1 did not call it", e.Message);
        }
    }

    [Fact]
    public void Wait_SeveralRanksThatNeverCall_AreAllNamed()
    {
        var failures = RunEach(4, group =>
        {
            if (group.Rank == 0)
                group.Broadcast(ones(10), 3).Wait(Short);
        });
        Assert.Contains("ranks 1, 2, 3 did not call it", Assert.IsType<DistributedTimeoutException>(failures[0]).Message);
    }

    [Fact]
    public void Use_AfterAFailure_IsRefusedWithTheFirstCause()
    {
        RunEach(2, group =>
        {
            if (group.Rank != 0)
                return;
            var work = group.Barrier();
            var first = Assert.Throws<DistributedTimeoutException>(() => work.Wait(Short));
            Assert.Same(first, Assert.ThrowsAny<DistributedException>(() => work.Wait()));
            Assert.Same(first, work.Exception);
            Assert.True(work.IsCompleted);
            foreach (var call in Calls.Values)
            {
                var later = Assert.Throws<DistributedException>(() => call(group));
                Assert.Same(first, later.InnerException);
                Assert.Contains(first.Message, later.Message);
            }
        }).ToList().ForEach(Assert.Null);
    }

    [Fact]
    public void Group_MadeAfterAFailure_Works()
    {
        using var store = new HashStore();
        RankThreads.Run(2, rank =>
        {
            using (var broken = GroupOfThreads.Create(Backend, new PrefixStore("1", store), rank, 2, GroupOfThreads.Limit))
                Assert.ThrowsAny<DistributedException>(() => broken.AllReduce(ones(rank + 1)).Wait());
            using var group = GroupOfThreads.Create(Backend, new PrefixStore("2", store), rank, 2, GroupOfThreads.Limit);
            group.Barrier().Wait();
        });
    }

    [Fact]
    public void Dispose_WhileAnotherRankWaits_EndsThatWait()
    {
        using var store = new HashStore();
        var failures = RankThreads.RunEach(2, rank =>
        {
            using var group = GroupOfThreads.Create(Backend, store, rank, 2, GroupOfThreads.Limit);
            if (rank == 0)
                group.AllReduce(ones(10)).Wait();
        });
        var e = Assert.IsType<PeerFailedException>(failures[0]);
        Assert.Equal(1, e.FailedRank);
        Assert.Contains("left the group", e.Message);
    }

    [Fact]
    public void Dispose_WhileAnotherThreadOfTheRankWaits_EndsThatWait()
    {
        var failures = RunEach(2, group =>
        {
            if (group.Rank != 0)
                return;
            var work = group.Barrier();
            var waiter = LimitedThread.Start(() => work.Wait());
            waiter.LetItWait();
            group.Dispose();
            Assert.Contains("disposed", Assert.IsType<DistributedException>(waiter.End()).Message);
        });
        Assert.All(failures, Assert.Null);
    }

    [Fact]
    public void Dispose_AfterTheLastOperation_LosesNothing() // a rank may leave while others still take the result
    {
        for (var run = 0; run < 10; run++)
            GroupOfThreads.Run(Backend, 4, group =>
            {
                using var t = ones(300_000);
                group.AllReduce(t).Wait();
                Assert.Equal(4, t[299_999].ToDouble());
            });
    }

    [Fact]
    public void Use_AfterDispose_IsRefusedAndDisposingTwiceHarmless()
    {
        GroupOfThreads.Run(Backend, 1, group =>
        {
            group.Dispose();
            group.Dispose();
            Assert.Contains("disposed", Assert.Throws<DistributedException>(() => group.Barrier()).Message);
            group.Abort("too late");
        });
    }

    [Fact]
    public void Create_RankThatNeverComes_IsNamed()
    {
        using var store = new HashStore();
        var failures = RankThreads.RunEach(2, rank => GroupOfThreads.Create(Backend, store, rank, 3, TimeSpan.FromMilliseconds(400)).Dispose());
        Assert.Contains(failures, failure => failure is DistributedTimeoutException && failure.Message.Contains("rank 2", StringComparison.Ordinal));
        Assert.All(failures, failure => Assert.IsAssignableFrom<DistributedException>(failure));
    }

    [Fact]
    public void Create_FirstRankNeverComes_TimesOut()
    {
        using var store = new HashStore();
        Assert.Throws<DistributedTimeoutException>(() => GroupOfThreads.Create(Backend, store, 1, 2, Short));
    }

    [Fact]
    public void Create_SameRankTwice_RefusesOneAndLeavesTheOtherUnharmed()
    {
        using var store = new HashStore();
        using var refused = new ManualResetEventSlim();
        int[] ranks = [0, 1, 1, 2];
        var failures = RankThreads.RunEach(4, thread =>
        {
            if (ranks[thread] == 2)
                Assert.True(refused.Wait(GroupOfThreads.Limit));
            try
            {
                using var group = GroupOfThreads.Create(Backend, store, ranks[thread], 3, GroupOfThreads.Limit);
                for (var i = 0; i < 3; i++)
                    group.Barrier().Wait();
            }
            finally
            {
                refused.Set();
            }
        });
        var failure = Assert.IsType<DistributedException>(Assert.Single(failures, e => e is not null));
        Assert.Contains("Rank 1 is taken", failure.Message);
    }

    [Theory]
    [InlineData(-1, 2)]
    [InlineData(2, 2)]
    [InlineData(0, 0)]
    public void Create_ImpossibleRank_IsRefused(int rank, int size)
    {
        using var store = new HashStore();
        Assert.Equal("rank", Assert.Throws<ArgumentException>(() => GroupOfThreads.Create(Backend, store, rank, size)).ParamName);
        Assert.Throws<ArgumentNullException>(() => GroupOfThreads.Create(Backend, null!, 0, 1));
    }

    private static long[] Each(ProcessGroup group, long rows) => [.. Enumerable.Repeat(rows, group.Size)];

    private Exception?[] RunEach(int ranks, Action<ProcessGroup> body) => GroupOfThreads.RunEach(Backend, ranks, body);
}
