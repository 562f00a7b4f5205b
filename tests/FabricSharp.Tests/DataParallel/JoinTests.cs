using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Tests.Collectives;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Ranks with different numbers of batches.</summary>
public class JoinTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Join_RankThatEndsEarlier_CountsInTheDivisorOrNot(bool divideByAll) => Replicas.OfALinear(2, new DDPOptions(), (model, net, group) =>
        model.Join(() =>
        {
            for (var step = 0; step <= group.Rank; step++)
            {
                net.weight!.grad = null;
                model.Backward(model.call(ones(1, 2)).sum());
                model.EnsureReduced();
                var expected = step == 0 || !divideByAll ? 1 : 0.5;
                Assert.True(net.weight.grad!.eq(expected).all().item<bool>(), $"step {step}: {net.weight.grad.str()}");
            }
        }, divideByInitialWorldSize: divideByAll));

    [Theory]
    [InlineData(3, false)]
    [InlineData(3, true)]
    [InlineData(4, true)]
    public void Join_DifferentNumbersOfBatches_EndsWithEqualModels(int ranks, bool staticGraph) => GroupOfThreads.Run("shm", ranks, group =>
    {
        var net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1));
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { StaticGraph = staticGraph, BucketCapMb = 1e-5 });
        var optimizer = optim.SGD(net.parameters(), 0.05);
        model.Join(() =>
        {
            for (var step = 0; step < 2 + 2 * group.Rank; step++)
            {
                net.zero_grad();
                model.Backward(model.call(full([5, 4], group.Rank + 1.0) + randn(5, 4)).square().mean());
                model.EnsureReduced();
                optimizer.step();
            }
        });
        Replicas.RequireEqual(net, group);
        net.zero_grad();
        model.Backward(model.call(randn(5, 4)).square().mean()); // the reducers are in step afterwards
        model.EnsureReduced();
        group.Barrier().Wait();
    });

    [Fact]
    public void Join_UnusedParameters_AreSynchronisedAsUsual() => GroupOfThreads.Run("shm", 3, group =>
    {
        var net = new Branchy();
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { FindUnusedParameters = true });
        model.Join(() =>
        {
            for (var step = 0; step < 3 * (group.Rank + 1); step++)
            {
                net.zero_grad();
                net.Take = "abc"[(step + group.Rank) % 3].ToString();
                model.Backward(model.call(ones(2, 4)).sum());
                model.EnsureReduced();
                using (no_grad())
                    foreach (var parameter in net.parameters())
                        if (parameter.grad is { } gradient)
                            parameter.sub_(gradient * 0.1);
            }
        });
        Replicas.RequireEqual(net, group);
        group.Barrier().Wait();
    });

    [Fact]
    public void Join_NoSyncAndTwoModels_StaysInStep() => GroupOfThreads.Run("shm", 2, group =>
    {
        var (left, right) = (nn.Linear(2, 2), nn.Linear(2, 1));
        using var first = new DistributedDataParallel<Tensor, Tensor>(left, group);
        using var second = new DistributedDataParallel<Tensor, Tensor>(right, group);
        Join.Run([first, second], () =>
        {
            for (var step = 0; step < 2 + 3 * group.Rank; step++)
            {
                using (first.NoSync())
                    first.Backward(first.call(ones(1, 2)).sum());
                first.Backward(first.call(ones(1, 2)).sum());
                second.Backward(second.call(first.call(ones(1, 2)).detach()).sum());
                first.Module.zero_grad();
                second.Module.zero_grad();
            }
        });
        Replicas.RequireEqual(left, group);
        group.Barrier().Wait();
    });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Join_WithACommunicationHook_EndsWithEqualModels(bool staticGraph) => GroupOfThreads.Run("shm", 2, group =>
    {
        var net = nn.Linear(2, 1);
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { StaticGraph = staticGraph, CommunicationHook = CommunicationHook.AllReduce });
        model.Join(() =>
        {
            for (var step = 0; step < 2 + group.Rank; step++)
            {
                net.zero_grad();
                model.Backward(model.call(ones(1, 2)).sum());
                model.EnsureReduced();
                Assert.True(net.weight!.grad!.eq(step == 2 ? 0.5 : 1).all().item<bool>(), $"step {step}: {net.weight.grad.str()}");
            }
        });
        Replicas.RequireEqual(net, group);
        group.Barrier().Wait();
    });

    [Fact]
    public void Join_DivisorOfTheRanksThatTrain_IsRefusedWithACommunicationHook() => Replicas.OfALinear(1, new DDPOptions { CommunicationHook = CommunicationHook.AllReduce }, (model, _, _) =>
    {
        Assert.Contains("divideByInitialWorldSize: true", Assert.Throws<ArgumentException>(() => model.Join(() => { }, divideByInitialWorldSize: false)).Message);
        model.Join(() => { });
    });

    [Fact]
    public void Join_RankWithoutABatchAtFirst_TrainsInTheNextWithAStaticGraph() => Replicas.OfALinear(2, new DDPOptions { StaticGraph = true }, (model, net, group) =>
    {
        for (var epoch = 0; epoch < 2; epoch++)
            model.Join(() =>
            {
                for (var step = 0; step < (epoch == 0 ? group.Rank * 2 : 3); step++)
                {
                    net.zero_grad();
                    model.Backward(model.call(ones(1, 2)).sum());
                    model.EnsureReduced();
                    Assert.True(net.weight!.grad!.eq(epoch == 0 ? 0.5 : 1).all().item<bool>(), net.weight.grad.str());
                }
            });
        Replicas.RequireEqual(net, group);
    });

    [Fact]
    public void Join_RefusedForOneModel_LeavesTheOthersAlone() => GroupOfThreads.Run("shm", 1, group =>
    {
        using var outer = new DistributedDataParallel<Tensor, Tensor>(nn.Linear(2, 1), group);
        using var inner = new DistributedDataParallel<Tensor, Tensor>(nn.Linear(2, 1), group);
        outer.Join(() => Assert.Throws<InvalidOperationException>(() => Join.Run([inner, outer], () => { })));
        inner.Join(() => { });
    });

    [Fact]
    public void Join_ThrowOnEarlyTermination_EndsAllRanks()
    {
        var failures = GroupOfThreads.RunEach("shm", 2, group =>
        {
            using var model = new DistributedDataParallel<Tensor, Tensor>(nn.Linear(2, 1), group);
            try
            {
                model.Join(() =>
                {
                    for (var step = 0; step < 2 + group.Rank; step++)
                        model.Backward(model.call(ones(1, 2)).sum());
                }, throwOnEarlyTermination: true);
            }
            finally
            {
                group.Barrier().Wait(); // the group is still usable
            }
        });
        Assert.Equal("Rank 0 exhausted all inputs.", Assert.IsAssignableFrom<InvalidOperationException>(failures[0]).Message);
        Assert.Equal("Detected at least one rank that exhausted inputs. Throwing across all ranks.", Assert.IsAssignableFrom<InvalidOperationException>(failures[1]).Message);
    }

    [Fact]
    public void Join_ThrowOnEarlyTerminationAndEvenInputs_DoesNotThrow() => Replicas.OfALinear(2, new DDPOptions(), (model, _, _) =>
        model.Join(() => model.Backward(model.call(ones(1, 2)).sum()), throwOnEarlyTermination: true));

    [Fact]
    public void Join_LoopThatThrowsOnOneRank_EndsTheOthers()
    {
        var failures = GroupOfThreads.RunEach("shm", 2, group =>
        {
            using var model = new DistributedDataParallel<Tensor, Tensor>(nn.Linear(2, 1), group);
            model.Join(() =>
            {
                for (var step = 0; step < 4; step++)
                {
                    if (group.Rank == 1 && step == 2)
                        throw new FormatException("bad batch");
                    model.Backward(model.call(ones(1, 2)).sum());
                }
            });
        });
        Assert.IsType<FormatException>(failures[1]);
        Assert.Contains("bad batch", Assert.IsAssignableFrom<DistributedException>(failures[0]).Message);
    }

    [Fact]
    public void Join_WrongUse_SaysWhatToPass() => Replicas.OfALinear(1, new DDPOptions(), (model, _, _) =>
    {
        Assert.StartsWith("The join context manager requires at least one joinable", Assert.Throws<ArgumentException>(() => Join.Run([], () => { })).Message);
        Assert.Throws<ArgumentException>(() => Join.Run([model, model], () => { }));
        Assert.Contains("cannot be nested", Assert.Throws<InvalidOperationException>(() => model.Join(() => model.Join(() => { }))).Message);
    });

    [Fact]
    public void Join_OfFabric_TakesTheSetUpModels()
    {
        var fabric = new Fabric(accelerator: "cpu", devices: 2, strategy: "ddp_notebook");
        fabric.Launch(f =>
        {
            var net = nn.Linear(2, 1);
            var (model, optimizer) = f.Setup(net, optim.SGD(net.parameters(), 0.1));
            f.Join([model], () =>
            {
                for (var step = 0; step < 1 + 2 * f.GlobalRank; step++)
                {
                    optimizer.zero_grad();
                    f.Backward(model.call(ones(1, 2)).sum());
                    optimizer.step();
                }
            });
            var all = f.AllGather(net.weight!.detach());
            Assert.True(all[0].Equals(all[1]));
            Assert.Throws<ArgumentException>(() => f.Join([net], () => { }));
            f.Barrier();
        });
    }
}
