using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Static graphs, and nested backward passes, which take one.</summary>
public class StaticGraphTests
{
    private static readonly DDPOptions Static = new() { StaticGraph = true };

    [Fact]
    public void Passes_AfterTheFirst_ExchangeNothing() => Replica<Branchy>.Run(3, () => new Branchy(), replica =>
    {
        for (var step = 0; step < 5; step++)
        {
            var losses = new[] { Branchy.Loss("a", 0, step), Branchy.Loss("ab", 1, step), Branchy.Loss("a", 2, step) };
            var expected = replica.Expected(losses);
            replica.ZeroGradients();
            replica.Pass(losses[replica.Rank]);
            replica.Reducer.BeforeStep();
            replica.RequireGradients(expected);
        }

        Assert.Equal(1, replica.Reducer.ControlExchanges);
        Assert.Equal(5, replica.Reducer.UnusedParameters.Passes);
        Assert.Equal(["c.bias", "c.weight"], replica.Reducer.UnusedParameters.Parameters.Where(p => p.UnusedEverywhere == 5).Select(p => p.Name).Order());
        Assert.DoesNotContain("c.weight", replica.Reducer.LoggingData().BucketParameters.SelectMany(names => names));
    }, Static);

    [Fact]
    public void Accumulation_BeforeTheSynchronisingPass_IsAveraged() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        for (var step = 0; step < 3; step++)
        {
            replica.ZeroGradients();
            replica.Reducer.RequiresSynchronization = false;
            replica.Pass(m => m.Trunk.weight!.sum() * (replica.Rank + 1));
            replica.Reducer.RequiresSynchronization = true;
            replica.Pass(m => m.Trunk.weight!.sum() * (replica.Rank + 1));
            replica.Reducer.BeforeStep();
            Assert.True(replica.Module.Trunk.weight!.grad!.eq(3).all().item<bool>());
        }
    }, Static);

    [Fact]
    public void Change_OnOneRankOnly_IsAnErrorThereAndEndsTheOthers()
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica =>
        {
            for (var step = 0; step < 4; step++)
            {
                replica.Pass(Branchy.Loss(replica.Rank == 1 && step == 2 ? "a" : "abc", replica.Rank, step));
                replica.Reducer.BeforeStep();
            }
        }, Static);
        var changed = Assert.IsType<UnfinishedReductionException>(failures[1]);
        Assert.Contains("this is not compatible with static_graph set to True", changed.Message);
        Assert.Equal(["b.bias", "b.weight", "c.bias", "c.weight"], changed.ParameterNames.Order());
        Assert.Contains("your training graph has changed", Assert.IsType<PeerFailedException>(failures[0]).Message);
    }

    [Fact]
    public void Step_WithoutABackwardPass_IsAChange()
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica =>
        {
            for (var step = 0; step < 3; step++)
            {
                replica.Reducer.BeforeForward();
                if (replica.Rank == 0 || step < 2)
                    replica.Pass(Branchy.Loss("abc", replica.Rank, step));
                replica.Reducer.BeforeStep();
            }
        }, Static);
        Assert.IsType<UnfinishedReductionException>(failures[1]);
        Assert.IsType<PeerFailedException>(failures[0]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Recomputation_OncePerModule_AveragesAsWithout(bool isStatic) => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        for (var step = 0; step < 3; step++)
        {
            var losses = Enumerable.Range(0, 2).Select(rank => Branchy.Loss("abc", rank, step)).ToList();
            var expected = replica.Expected(losses);
            replica.ZeroGradients();
            replica.Pass(m =>
            {
                m.Take = "abc";
                var x = randn([5, 4], generator: new Generator((ulong)(1000 * step + replica.Rank + 1))).requires_grad_();
                return Recomputed.Run(m, x).square().mean();
            });
            replica.Reducer.BeforeStep();
            replica.RequireGradients(expected);
        }
    }, new DDPOptions { StaticGraph = isStatic });

    [Fact]
    public void Recomputation_TwiceInOnePass_WorksWithAStaticGraph() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        for (var step = 0; step < 3; step++)
        {
            replica.ZeroGradients();
            replica.Pass(m => Twice(m, replica.Rank));
            replica.Reducer.BeforeStep();
            var local = replica.Module.Trunk.weight!.grad!.clone();
            var all = zeros([2, .. local.shape]);
            replica.Group.AllGather(all, local).Wait();
            Assert.True(all[0].Equals(all[1]));
            replica.ZeroGradients();
            var expected = replica.Expected([m => Plainly(m, 0), m => Plainly(m, 1)]);
            Assert.True(expected["trunk.weight"]!.allclose(local, 1e-5, 1e-5));
        }
    }, Static);

    [Fact]
    public void Recomputation_TwiceInOnePassWithoutAStaticGraph_SaysWhatToWrite()
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica => replica.Pass(m => Twice(m, replica.Rank)));
        Assert.All(failures, failure => Assert.NotNull(failure));
        Assert.Contains(failures, failure => failure!.Message.StartsWith("Expected to mark a variable ready only once.", StringComparison.Ordinal) && failure.Message.Contains("staticGraph: true"));
    }

    private static Tensor Twice(Branchy module, int rank)
    {
        module.Take = "abc";
        var x = full([2, 4], rank + 1.0, requires_grad: true);
        return Recomputed.Run(module, x).sum() + Recomputed.Run(module, x * 0.5).square().sum();
    }

    private static Tensor Plainly(Branchy module, int rank)
    {
        module.Take = "abc";
        var x = full([2, 4], rank + 1.0);
        return module.call(x).sum() + module.call(x * 0.5).square().sum();
    }
}
