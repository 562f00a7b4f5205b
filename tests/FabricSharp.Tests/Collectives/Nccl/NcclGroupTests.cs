using FabricSharp.Collectives;
using FabricSharp.Collectives.Nccl;
using FabricSharp.Interop.Nccl;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.Nccl;

/// <summary>What is NCCL's own: streams, devices, aborts. Each test that looks at a device has one that no other test uses.</summary>
public class NcclGroupTests
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(200);

    [Fact]
    public void AllReduce_OnItsStream_BeginsBehindLibtorchAndIsFollowedByAnEvent()
    {
        const int Device = 15;
        using var store = new HashStore();
        using var group = FakeNccl.Join(store, 0, 1, GroupOfThreads.Limit, Device);
        var before = FakeCuda.ComputationWaits(Device);
        using var t = ones(5);
        group.AllReduce(t).Wait();
        var trace = Assert.Single(FakeCuda.TracesOf(Device), trace => trace.Count > 0);
        Assert.Equal(["wait", "allreduce 5 Float32 0", "record"], trace);
        Assert.Equal(before + 1, FakeCuda.ComputationWaits(Device)); // and libtorch's stream goes on behind it
        group.AllToAll(zeros(4), ones(4)).Wait();
        Assert.Equal(["wait", "transfers 2", "record"], FakeCuda.TracesOf(Device)[0].Skip(3));
    }

    [Fact]
    public void Dispose_AfterManyOperations_LeavesNothing()
    {
        int[] devices = [13, 14];
        for (var round = 0; round < 2; round++)
        {
            using var store = new HashStore();
            RankThreads.Run(2, rank =>
            {
                using var group = FakeNccl.Join(store, rank, 2, GroupOfThreads.Limit, devices[rank]);
                for (var i = 0; i < 20; i++)
                {
                    using var t = ones(10);
                    group.AllReduce(t, ReduceOp.PreMulSum(1 + i % 3)).Wait();
                }

                Assert.Equal(3, Assert.Single(FakeNccl.On(devices[rank])).PreMulSums);
                Assert.InRange(FakeCuda.CountOn(devices[rank]).Events, 1, 4); // used again and again
            });
            Assert.All(devices, device => Assert.Equal((0, 0), FakeCuda.CountOn(device)));
            Assert.All(devices, device => Assert.Empty(FakeNccl.On(device)));
        }
    }

    [Fact]
    public void Wait_ThatTimesOut_AbortsTheCommunicator()
    {
        const int Device = 12;
        using var store = new HashStore();
        var failures = RankThreads.RunEach(2, rank =>
        {
            using var group = FakeNccl.Join(store, rank, 2, GroupOfThreads.Limit, Device - rank * 5);
            if (rank == 1)
            {
                store.Wait(["timed out"], GroupOfThreads.Limit);
                return;
            }

            var communicator = Assert.Single(FakeNccl.On(Device));
            using var t = ones(5);
            var work = group.AllReduce(t);
            try
            {
                work.Wait(Short);
            }
            finally
            {
                Assert.True(communicator.IsAborted);
                store.Set("timed out", [1]);
            }
        });
        Assert.Contains("AllReduce(Sum) of 5 × Float32 timed out after 0.2 s: rank 1 did not call it", Assert.IsType<DistributedTimeoutException>(failures[0]).Message);
    }

    [Fact]
    public void Wait_AsyncError_IsTheFailureAndAborts()
    {
        const int Device = 11;
        using var store = new HashStore();
        using var ended = new ManualResetEventSlim();
        var failures = RankThreads.RunEach(2, rank =>
        {
            using var group = FakeNccl.Join(store, rank, 2, GroupOfThreads.Limit, rank == 0 ? Device : 6);
            if (rank == 1)
            {
                ended.Wait(GroupOfThreads.Limit);
                return;
            }

            var communicator = Assert.Single(FakeNccl.On(Device));
            using var t = ones(5);
            var work = group.AllReduce(t);
            communicator.AsyncError = NcclResult.RemoteError;
            try
            {
                work.Wait();
            }
            finally
            {
                Assert.True(communicator.IsAborted);
                ended.Set();
            }
        });
        var e = Assert.IsType<DistributedException>(failures[0]);
        Assert.Contains("Rank 0: AllReduce(Sum) of 5 × Float32 failed", e.Message);
        Assert.Contains("(NCCL result 6)", e.Message);
    }

    [Fact]
    public void Join_NcclSaysDuplicateGpu_IsPutIntoWords()
    {
        const int Device = 10;
        using var store = new HashStore();
        using var group = FakeNccl.Join(store, 0, 1, GroupOfThreads.Limit, Device);
        Assert.Single(FakeNccl.On(Device)).AsyncError = NcclResult.InvalidUsage;
        using var t = ones(5);
        Assert.Contains("Two ranks use the same GPU", Assert.Throws<DistributedException>(() => group.AllReduce(t)).Message);
    }

    [Fact]
    public void Join_TwoRanksOnOneGpu_IsRefusedOnBothBeforeNcclIsAsked()
    {
        using var alias = FakeCuda.Alias(9, 8);
        using var store = new HashStore();
        var failures = RankThreads.RunEach(2, rank => FakeNccl.Join(store, rank, 2, GroupOfThreads.Limit, 8 + rank).Dispose());
        Assert.All(failures, failure => Assert.Contains("rank 0 and rank 1 would use the same GPU (0000:08:00.0", Assert.IsType<DistributedException>(failure).Message));
    }

    [Fact]
    public void Join_MoreRanksThanDevices_IsRefusedWithTheNumber()
    {
        var members = Enumerable.Range(0, 3).Select(_ => new Member("here", -1, ["a", "b"])).ToList();
        Assert.Contains("rank 2 has no GPU of its own: it would be cuda:2, and it sees 2", Assert.Throws<DistributedException>(() => NcclPlacement.DeviceOf(0, members, [0, 1, 2])).Message);
    }

    [Fact]
    public void DeviceOf_TwoMachines_CountsOnEach()
    {
        List<Member> members = [new("a", -1, ["1", "2"]), new("a", -1, ["1", "2"]), new("b", -1, ["1", "2"]), new("b", -1, ["1", "2"])];
        Assert.Equal([0, 1, 0, 1], Enumerable.Range(0, 4).Select(rank => NcclPlacement.DeviceOf(rank, members, [0, 1, 2, 3])));
        Assert.Equal(0, NcclPlacement.DeviceOf(1, [new("a", -1, ["1"]), new("a", -1, ["2"])], [0, 1])); // each sees its own only
    }

    [Theory]
    [InlineData(ScalarType.Int32)]
    [InlineData(ScalarType.Int16)]
    [InlineData(ScalarType.Bool)]
    public void AllReduce_WhatNcclCannot_IsRefusedAndTheGroupUsable(ScalarType type) => GroupOfThreads.Run("nccl", 2, group =>
    {
        foreach (var op in type == ScalarType.Int32 ? [ReduceOp.BitwiseAnd, ReduceOp.BitwiseOr, ReduceOp.BitwiseXor] : new[] { ReduceOp.BitwiseXor })
        {
            var e = Assert.Throws<ArgumentException>(() => group.AllReduce(zeros(3, type), op));
            Assert.Contains(type == ScalarType.Int16 ? "NCCL has no arithmetic for Int16" : "no bitwise operations", e.Message);
        }

        group.Barrier().Wait();
    });

    [Fact]
    public void PreMulSum_LibraryWithoutIt_ScalesBefore()
    {
        using var store = new HashStore();
        RankThreads.Run(2, rank =>
        {
            using var group = NcclProcessGroup.Join(FakeNccl.OldEngine, store, rank, 2, GroupOfThreads.Limit);
            using var scope = NewDisposeScope();
            var half = ReduceOp.PreMulSum(0.5);
            var (all, one, part, whole) = (full(3, 2.0 * (rank + 1)), full(3, 2.0 * (rank + 1)), zeros(2), ones(4));
            group.AllReduce(all, half).Wait();
            group.Reduce(one, 1, half).Wait();
            group.ReduceScatter(part, whole, half).Wait();
            Assert.Equal((9.0, rank == 1 ? 9.0 : 6.0, 2.0, 4.0), (all.sum().ToDouble(), one.sum().ToDouble(), part.sum().ToDouble(), whole.sum().ToDouble()));
        });
    }

    [Fact]
    public void Work_TensorDisposedByTheCaller_IsHeldUntilTheEnd() => GroupOfThreads.Run("nccl", 2, group =>
    {
        var sum = full(100_000, 1.0);
        using var alias = sum.alias();
        var work = group.AllReduce(sum);
        sum.Dispose();
        work.Wait();
        Assert.Equal(200_000, alias.sum().ToDouble());
    });
}
