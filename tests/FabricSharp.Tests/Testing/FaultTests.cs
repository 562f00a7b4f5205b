using System.Diagnostics;
using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Strategies;
using FabricSharp.Testing;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Testing;

public class FaultTests
{
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(150);

    [Fact]
    public void Delay_AtOneCall_MakesTheOthersWait() => RankThreads.RunGroup(2, group =>
    {
        var late = group.Rank == 1 ? Fault.Over(group, Fault.Delay(Short, at: 1, GroupOperation.AllReduce)) : group;
        late.AllReduce(ones(1)).Wait();
        late.Barrier().Wait();
        var start = Stopwatch.GetTimestamp();
        late.AllReduce(ones(1)).Wait();
        Assert.InRange(Stopwatch.GetElapsedTime(start), 0.9 * Short, TimeSpan.FromSeconds(20));
    });

    [Fact]
    public void Delay_BeyondTheTimeout_IsARankThatHangs()
    {
        var failure = Assert.Throws<RankFailedException>(() => RankThreads.RunGroup(2, group =>
        {
            var late = group.Rank == 1 ? Fault.Over(group, Fault.Delay(10 * Short)) : group;
            late.AllReduce(ones(1)).Wait(Short);
        }));
        Assert.Equal(0, failure.Rank);
        Assert.Contains("rank 1", Assert.IsType<DistributedTimeoutException>(failure.InnerException).Message);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void FailOrLeave_AtACall_EndsTheOthersWithThatRanksName(bool leaves)
    {
        var ends = RankThreads.RunGroup(3, group =>
        {
            var faulty = group.Rank == 2 ? Fault.Over(group, leaves ? Fault.Leave(at: 1) : Fault.Fail(at: 1)) : group;
            faulty.AllReduce(ones(1)).Wait();
            var failure = Assert.ThrowsAny<DistributedException>(() => faulty.AllReduce(ones(1)).Wait());
            if (group.Rank == 2)
                Assert.ThrowsAny<Exception>(() => faulty.Barrier().Wait()); // unusable from now on
            return failure;
        });
        Assert.Equal(1, Assert.IsType<InjectedFaultException>(ends[2]).Call.Number);
        Assert.All(ends.Take(2), end => Assert.Equal(2, Assert.IsType<PeerFailedException>(end).FailedRank));
        Assert.All(ends.Take(2), end => Assert.Contains(leaves ? "rank 2" : "because the test asked for it", end.Message));
    }

    [Theory]
    [InlineData(GroupOperation.GradientReduce, 3, false)]
    [InlineData(GroupOperation.GradientReduce, 3, true)]
    [InlineData(GroupOperation.GradientExchange, 1, false)]
    [InlineData(GroupOperation.GradientExchange, 1, true)]
    public void FailOrLeave_InTraining_IsThrownThereAndNamedElsewhere(GroupOperation operation, int at, bool leaves)
    {
        var fault = leaves ? Fault.Leave(at, operation) : Fault.Fail(at, operation);
        var strategy = new DDPStrategy(bucketCapMb: 0.0001, timeout: TimeSpan.FromSeconds(20)).WithGroup(group => group.Rank == 1 ? Fault.Over(group, fault) : group);
        var ends = RankThreads.Run(3, fabric =>
        {
            var net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1));
            var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
            return Assert.ThrowsAny<DistributedException>(() =>
            {
                for (var step = 0; step < 5; step++)
                {
                    optimizer.zero_grad();
                    fabric.Backward(model.call(ones(2, 4)).sum());
                    optimizer.step();
                }
            });
        }, strategy);
        Assert.Equal(operation, Assert.IsType<InjectedFaultException>(ends[1]).Call.Operation);
        Assert.Equal(1, Assert.IsType<PeerFailedException>(ends[0]).FailedRank);
        Assert.Equal(1, Assert.IsType<PeerFailedException>(ends[2]).FailedRank);
    }

    [Fact]
    public void Delay_InTraining_ChangesNoResult()
    {
        float[] Train(params Fault[] faults) => [.. RankThreads.RunGroup(2, group =>
        {
            var net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1));
            using (no_grad())
                foreach (var parameter in net.parameters())
                    parameter.fill_(0.1);
            using var model = new DistributedDataParallel<Tensor, Tensor>(net, group.Rank == 0 ? Fault.Over(group, faults) : group, new DDPOptions { BucketCapMb = 0.0001 });
            for (var step = 0; step < 3; step++)
                model.Backward(model.call(full([1, 4], group.Rank + 1.0)).sum());
            group.Barrier().Wait();
            return net.parameters().Sum(parameter => parameter.grad!.sum().item<float>());
        })];

        Assert.Equal(Train(), Train(Fault.Delay(TimeSpan.FromMilliseconds(3), operation: GroupOperation.GradientReduce)));
    }

    [Fact]
    public void Fault_WrongArguments_AreRefused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Fault.Fail(at: -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => Fault.Delay(TimeSpan.FromSeconds(-1)));
        Assert.Equal("fail at call 2 of Barrier", Fault.Fail(2, GroupOperation.Barrier).ToString());
    }
}
