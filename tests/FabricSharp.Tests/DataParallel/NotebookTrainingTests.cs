using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Strategies;
using FabricSharp.Tests.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>The whole way from strategy names to averaged gradients, with ranks as threads.</summary>
public class NotebookTrainingTests
{
    [Theory]
    [InlineData("ddp_notebook_find_unused_parameters_true")]
    [InlineData("object")]
    public void Train_BranchesDifferByRank_KeepsReplicasEqual(string strategy)
    {
        var sums = Launch(3, strategy == "object" ? new DDPStrategy(findUnusedParameters: true, startMethod: StartMethod.Notebook) : strategy, fabric =>
        {
            var net = new Branchy();
            var (model, optimizer) = fabric.Setup(net, optim.AdamW(net.parameters(), 0.01));
            for (var step = 0; step < 10; step++)
            {
                optimizer.zero_grad();
                net.Take = "abc"[(step + fabric.GlobalRank) % 3].ToString();
                fabric.Backward(model.call(full([2, 4], fabric.GlobalRank + 1.0)).pow(2).mean());
                optimizer.step();
            }

            Assert.NotEmpty(model.UnusedParameters.Parameters);
            return fabric.AllGather(cat([.. net.parameters().Select(p => p.detach().flatten())])).data<float>().ToArray();
        });
        var perRank = sums.Length / 3;
        Assert.Equal(sums[..perRank], sums[perRank..(2 * perRank)]);
        Assert.Equal(sums[..perRank], sums[(2 * perRank)..]);
    }

    [Theory]
    [InlineData("ddp_notebook")]
    [InlineData("ddp_notebook_find_unused_parameters_false")]
    public void Train_FlagOffAndABranchUnused_ThrowsAtTheStep(string strategy)
    {
        var e = Assert.Throws<UnfinishedReductionException>(() => Launch(2, strategy, fabric =>
        {
            var net = new Branchy { Take = "a" };
            var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.01));
            fabric.Backward(model.call(ones(2, 4)).mean());
            optimizer.step();
            return 0;
        }));
        Assert.Contains("b.weight", e.ParameterNames);
    }

    [Fact]
    public void Train_PlainBackwardOfTheLoss_AveragesToo() => Launch(2, "ddp_notebook", fabric =>
    {
        Assert.SkipUnless(FabricSharp.Interop.LibTorch.GradientHooks.IsSupported, "Without hooks Fabric.Backward is needed.");
        var net = nn.Linear(2, 1, hasBias: false);
        var model = fabric.Setup(net);
        model.call(full([1, 2], 2.0 + 2 * fabric.GlobalRank)).sum().backward();
        Assert.True(net.weight!.grad!.eq(3).all().item<bool>());
        return 0;
    });

    [Fact]
    public void Train_TwoModelsAndTwoOptimizers_AreSynchronisedEach() => Launch(2, "ddp_notebook", fabric =>
    {
        var (left, right) = (nn.Linear(2, 2), nn.Linear(2, 2));
        var (generator, generatorOptimizer) = fabric.Setup(left, optim.SGD(left.parameters(), 0.1));
        var (critic, criticOptimizer) = fabric.Setup(right, optim.SGD(right.parameters(), 0.1));
        var x = full([1, 2], fabric.GlobalRank + 1.0);
        for (var step = 0; step < 3; step++)
        {
            criticOptimizer.zero_grad();
            fabric.Backward(critic.call(generator.call(x).detach()).sum());
            criticOptimizer.step();
        }

        var all = fabric.AllGather(right.weight!.detach());
        Assert.True(all[0].Equals(all[1]));
        return 0;
    });

    [Fact]
    public void NoBackwardSync_NestedAndThrownThrough_RestoresTheState() => Launch(2, "ddp_notebook", fabric =>
    {
        var net = nn.Linear(2, 1, hasBias: false);
        var model = fabric.Setup(net);
        void Pass() => fabric.Backward(model.call(full([1, 2], 2.0 + 2 * fabric.GlobalRank)).sum());
        try
        {
            using (fabric.NoBackwardSync(model))
            using (fabric.NoBackwardSync(model, enabled: false))
                throw new InvalidOperationException();
        }
        catch (InvalidOperationException)
        {
            // the scopes have ended
        }

        Pass();
        Assert.True(net.weight!.grad!.eq(3).all().item<bool>());
        net.weight.grad = null;
        using (fabric.NoBackwardSync(model))
        {
            using (fabric.NoBackwardSync(model))
                Pass();
            Pass();
        }

        Assert.True(net.weight.grad!.eq(2 * (2 + 2 * fabric.GlobalRank)).all().item<bool>());
        return 0;
    });

    [Fact]
    public void Launch_Function_ReturnsRankZerosResultAndRuns() =>
        Assert.Equal("0 of 3", Launch(3, "ddp_notebook", fabric => $"{fabric.GlobalRank} of {fabric.WorldSize}"));

    [Fact]
    public void Launch_OneRankThrows_ThrowsThatFailure()
    {
        var e = Assert.Throws<InvalidDataException>(() => Launch(3, "ddp_notebook", fabric =>
        {
            if (fabric.GlobalRank == 1)
                throw new InvalidDataException("bad sample");
            fabric.Barrier();
            return 0;
        }));
        Assert.Equal("bad sample", e.Message);
    }

    [Fact]
    public void Launch_WithoutFunctionOrTwice_IsRefused()
    {
        using var fabric = new Fabric("cpu", "ddp_notebook", 2);
        Assert.Contains("needs to be called with a function", Assert.Throws<InvalidOperationException>(fabric.Launch).Message);
        fabric.Launch(_ => { });
        Assert.Contains("only create subprocesses once", Assert.Throws<InvalidOperationException>(() => fabric.Launch(_ => { })).Message);
    }

    [Fact]
    public void Collectives_OfFabric_FollowTheirDocumentation() => Launch(3, "ddp_notebook", fabric =>
    {
        Assert.Equal(2.0, fabric.AllReduce(fabric.GlobalRank + 1.0));
        Assert.Equal(6.0, fabric.AllReduce(fabric.GlobalRank + 1.0, "sum"));
        var whole = fabric.AllReduce(tensor(new[] { -1L - fabric.GlobalRank, 5L * fabric.GlobalRank }), "avg");
        Assert.Equal([-2L, 5], whole.data<long>().ToArray());
        Assert.Throws<ArgumentException>(() => fabric.AllReduce(ones(1), "median"));
        Assert.Equal([3, 2, 2], fabric.AllGather(ones(2, 2)).shape);
        Assert.Equal("from 2", fabric.Broadcast($"from {fabric.GlobalRank}", src: 2));
        Assert.Equal([1, 0], fabric.Broadcast(new List<int> { 1, fabric.GlobalRank }));
        Assert.Equal(1, fabric.Broadcast(full(1, (double)fabric.GlobalRank), src: 1).item<float>());
        fabric.Barrier();
        Assert.Equal(fabric.GlobalRank == 0, fabric.IsGlobalZero);
        return 0;
    });

    [Fact]
    public void Launch_ManyTimesInOneProcess_LeavesNothing()
    {
        static int Files() => Directory.Exists("/proc/self/fd") ? Directory.GetFileSystemEntries("/proc/self/fd").Length : 0;
        Launch(2, "ddp_notebook", _ => 0);
        var before = Files();
        for (var i = 0; i < 20; i++)
            Launch(2, "ddp_notebook", fabric =>
            {
                var net = nn.Linear(2, 1);
                fabric.Backward(fabric.Setup(net).call(ones(1, 2)).sum());
                return 0;
            });

        // Gradients that nobody holds any more keep their memory until the garbage collector has seen them.
        Assert.True(SpinWait.SpinUntil(
            () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return Files() <= before + 5;
            },
            TimeSpan.FromSeconds(20)));
    }

    [Fact]
    public void Launch_FailedRank_SurfacesAsPeerFailureElsewhere()
    {
        var seen = new Exception?[2];
        Assert.Throws<InvalidDataException>(() => Launch<int>(2, "ddp_notebook", fabric =>
        {
            try
            {
                if (fabric.GlobalRank == 0)
                    throw new InvalidDataException("bad");
                fabric.Barrier();
                return 0;
            }
            catch (Exception e)
            {
                seen[fabric.GlobalRank] = e;
                throw;
            }
        }));
        Assert.Equal("InvalidDataException: bad", Assert.IsType<PeerFailedException>(seen[1]).Reason);
    }

    private static T Launch<T>(int ranks, StrategyChoice strategy, Func<Fabric, T> body)
    {
        var result = default(T)!;
        LimitedThread.Start(() =>
        {
            using var fabric = new Fabric("cpu", strategy, ranks);
            result = fabric.Launch(rank =>
            {
                using var scope = NewDisposeScope();
                return body(rank);
            });
        }).Join();
        return result;
    }
}
