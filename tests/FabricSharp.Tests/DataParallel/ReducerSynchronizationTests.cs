using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using TorchSharp.Modules;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Passes without synchronisation, static graphs, buffers, and passes that go wrong.</summary>
public class ReducerSynchronizationTests
{
    private static readonly DDPOptions FindUnused = new() { FindUnusedParameters = true };

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void NoSync_ThreePassesThenOne_AveragesTheSums(bool views) => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var expected = new Dictionary<string, Tensor?>();
        for (var step = 0; step < 4; step++)
            foreach (var (name, gradient) in replica.Expected(Enumerable.Range(0, 2).Select(rank => Branchy.Loss("abc", rank, step))))
                expected[name] = expected.TryGetValue(name, out var sum) ? sum! + gradient! : gradient;
        var sent = replica.Reducer.BytesSent;
        replica.Reducer.RequiresSynchronization = false;
        for (var step = 0; step < 3; step++)
            replica.Pass(Branchy.Loss("abc", replica.Rank, step));
        Assert.Equal(sent, replica.Reducer.BytesSent);
        replica.Reducer.RequiresSynchronization = true;
        replica.Pass(Branchy.Loss("abc", replica.Rank, 3));
        replica.RequireGradients(expected);
    }, new DDPOptions { GradientAsBucketView = views });

    [Fact]
    public void NoSync_Inside_GradientsStayLocal() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Reducer.RequiresSynchronization = false;
        replica.Pass(m => m.Trunk.weight!.sum() * (replica.Rank + 1));
        Assert.True(replica.Module.Trunk.weight!.grad!.eq(replica.Rank + 1).all().item<bool>());
    });

    /// <summary>What counts is where the forward pass is, as in PyTorch.</summary>
    [Fact]
    public void NoSync_ForwardInsideBackwardOutside_StaysLocal() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var trunk = replica.Module.Trunk.weight!;
        MixedPass(replica, forwardSynchronizes: false, m => m.Trunk.weight!.sum() * (replica.Rank + 1));
        Assert.True(trunk.grad!.eq(replica.Rank + 1).all().item<bool>());
        replica.Pass(m => m.parameters().Select(parameter => parameter.sum()).Aggregate((a, b) => a + b));
        Assert.True(trunk.grad!.eq(2.5).all().item<bool>()); // 1 and 2 from before, and 1 now
    });

    [Fact]
    public void NoSync_ForwardOutsideBackwardInside_IsAveraged() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        MixedPass(replica, forwardSynchronizes: true, m => m.parameters().Select(parameter => parameter.sum() * (replica.Rank + 1)).Aggregate((a, b) => a + b));
        Assert.All(replica.Module.parameters(), parameter => Assert.True(parameter.grad!.eq(1.5).all().item<bool>()));
    });

    [Fact]
    public void NoSync_UsedOnlyInside_CountsInTheSynchronisingPass() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var weight = replica.Module.BranchA.weight!;
        replica.Reducer.RequiresSynchronization = false;
        if (replica.Rank == 0)
            replica.Pass(m => m.BranchA.weight!.sum() * 6);
        replica.Reducer.RequiresSynchronization = true;
        replica.Pass(m => m.Trunk.weight!.sum());
        Assert.True(weight.grad!.eq(3).all().item<bool>());
        replica.ZeroGradients();
        replica.Pass(m => m.Trunk.weight!.sum());
        Assert.Null(weight.grad); // it counted once
    }, FindUnused);

    [Fact]
    public void StaticGraph_UnusedInTheFirstPass_IsAcceptedForGood() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        for (var step = 0; step < 3; step++)
        {
            var losses = new[] { Branchy.Loss("a", 0, step), Branchy.Loss("ab", 1, step) };
            var expected = replica.Expected(losses);
            replica.ZeroGradients();
            replica.Pass(losses[replica.Rank]);
            replica.RequireGradients(expected);
        }
    }, new DDPOptions { StaticGraph = true });

    [Theory]
    [InlineData("a", "abc", "unused in first iteration, but then got used in the second iteration")]
    [InlineData("abc", "a", "used in first iteration, but then got unused in the second iteration")]
    public void StaticGraph_ChangedLater_IsAnError(string first, string second, string text)
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica =>
        {
            replica.Pass(Branchy.Loss(first, replica.Rank));
            replica.Pass(Branchy.Loss(second, replica.Rank));
            replica.Reducer.BeforeStep();
        }, new DDPOptions { StaticGraph = true });
        Assert.All(failures, failure => Assert.Contains($"e.g., one parameter is {text}. this is not compatible with static_graph set to True.", failure!.Message));
        var e = failures.OfType<UnfinishedReductionException>().First(); // the other rank may hear of it before it sees for itself
        Assert.StartsWith("Expected to have finished reduction in the prior iteration before starting a new one.", e.Message);
        Assert.Contains("b.weight", e.ParameterNames);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Buffers_BeforeForward_AreRankZerosWhenAsked(bool broadcast) => Replica<BatchNorm1d>.Run(2, () => nn.BatchNorm1d(4), replica =>
    {
        for (var step = 0; step < 3; step++)
            replica.Pass(m => m.call(full([3, 4], replica.Rank + 1.0)).sum());
        replica.Reducer.BeforeForward();
        var means = zeros(2, 4);
        replica.Group.AllGather(means, replica.Module.running_mean!).Wait();
        var expected = 1 - Math.Pow(0.9, 3);
        Assert.Equal(expected, means[0, 0].item<float>(), 1e-5);
        Assert.Equal(broadcast ? expected : 2 * expected, means[1, 0].item<float>(), 1e-5);
        Assert.Equal(3, replica.Module.num_batches_tracked!.item<long>());
    }, new DDPOptions { BroadcastBuffers = broadcast });

    /// <summary>The next synchronising forward pass brings rank 0's to all.</summary>
    [Fact]
    public void Buffers_ForwardInsideNoSync_StayLocal() => Replica<BatchNorm1d>.Run(2, () => nn.BatchNorm1d(2), replica =>
    {
        var mean = replica.Module.running_mean!;
        void Forward(float value) => replica.Pass(m => m.call(full([4, 2], value)).sum());
        Forward(10);
        replica.Reducer.RequiresSynchronization = false;
        Forward(replica.Rank == 0 ? 10 : 30);
        Forward(replica.Rank == 0 ? 10 : 30);
        Assert.Equal(replica.Rank == 0 ? 2.71 : 6.51, mean[0].item<float>(), 1e-4); // m := 0.9 m + 0.1 x, from 0, three times
        replica.Reducer.RequiresSynchronization = true;
        replica.Reducer.BeforeForward();
        Assert.Equal(2.71, mean[0].item<float>(), 1e-4);
        replica.Reducer.BeforeBackward();
        replica.Module.call(full([4, 2], 10f)).sum().backward();
        replica.Reducer.AfterBackward();
    });

    [Fact]
    public void Backward_ThatThrowsOnAllRanks_IsForgotten() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var losses = Enumerable.Range(0, 2).Select(rank => Branchy.Loss("abc", rank)).ToList();
        var expected = replica.Expected(losses);
        Fail(replica);
        replica.ZeroGradients();
        replica.Pass(losses[replica.Rank]);
        replica.RequireGradients(expected);
    });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Backward_ThatThrowsOnAllRanks_LeavesGradientsThatTheNextPassAverages(bool views) => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var branch = replica.Module.BranchA;
        Fail(replica);
        Assert.NotNull(branch.weight!.grad);
        replica.Pass(m => m.Trunk.weight!.sum() * (replica.Rank + 1));
        replica.Reducer.BeforeStep();
        RequireSame(replica, branch.weight.grad!);
        RequireSame(replica, branch.bias!.grad!);
    }, new DDPOptions { FindUnusedParameters = true, GradientAsBucketView = views });

    [Fact]
    public void Backward_FailureOfOneModel_LeavesTheOthersInOrder()
    {
        Assert.SkipUnless(FabricSharp.Interop.LibTorch.GradientHooks.IsSupported, "Without hooks a plain backward pass is not seen.");
        Collectives.GroupOfThreads.Run("shm", 2, group =>
        {
            using var first = new Replica<Branchy>(new Branchy(), group);
            using var second = new Replica<Branchy>(new Branchy(), group);
            var backward = new SynchronizedBackward();
            backward.Add(first.Reducer);
            backward.Add(second.Reducer);
            first.Reducer.BeforeForward();
            var changed = first.Module.Trunk.weight!.exp();
            var loss = changed.sum() + first.Module.BranchA.call(ones(1, 4)).sum();
            if (group.Rank == 1)
                changed.add_(1);
            Assert.ThrowsAny<Exception>(() => backward.Run(loss, retainGraph: false));
            second.Reducer.BeforeForward();
            var value = second.Module.parameters().Select(p => p.sum()).Aggregate((x, y) => x + y) * (group.Rank + 1);
            value.backward(); // finished by libtorch's callback
            second.Reducer.BeforeStep();
            Assert.All(second.Module.parameters(), p => Assert.True(p.grad!.eq(1.5).all().item<bool>(), p.grad!.str()));
            group.Barrier().Wait();
        });
    }

    [Fact]
    public void Step_AfterABackwardPassThatThrewOnAllRanks_IsRefused() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        Fail(replica);
        Assert.Contains("ended in an exception", Assert.Throws<InvalidOperationException>(replica.Reducer.BeforeStep).Message);
        replica.ZeroGradients();
        replica.Pass(Branchy.Loss("abc", replica.Rank));
        replica.Reducer.BeforeStep();
    });

    [Fact]
    public void NoSync_GradientsThrownAway_DoNotCountAsUse() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Reducer.RequiresSynchronization = false;
        replica.Pass(Branchy.Loss("abc", replica.Rank));
        replica.Reducer.RequiresSynchronization = true;
        replica.ZeroGradients();
        replica.Pass(m => m.Trunk.weight!.sum());
        replica.Reducer.BeforeStep();
        Assert.Null(replica.Module.BranchA.weight!.grad);
    }, new DDPOptions { FindUnusedParameters = true });

    [Fact]
    public void Forward_ParameterUnfrozenAfterSetUp_SaysSo() => Replica<Branchy>.Run(
        2,
        () =>
        {
            var net = new Branchy();
            net.Trunk.weight!.requires_grad = false;
            return net;
        },
        replica =>
        {
            replica.Pass(Branchy.Loss("abc", replica.Rank));
            replica.Module.Trunk.weight!.requires_grad = true;
            var failure = Assert.Throws<InvalidOperationException>(() => replica.Pass(Branchy.Loss("abc", replica.Rank, 1)));
            Assert.Contains("trunk.weight", failure.Message);
            replica.Module.Trunk.weight!.requires_grad = false;
            replica.Pass(Branchy.Loss("abc", replica.Rank, 1));
        });

    [Fact]
    public void Dispose_OfAnEarlierReducer_LeavesTheLaterOneAtWork() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Pass(Branchy.Loss("a", replica.Rank));
        Assert.Throws<UnfinishedReductionException>(replica.Reducer.BeforeForward);
        replica.ZeroGradients();
        using var again = new Replica<Branchy>(replica.Module, replica.Group, new DDPOptions { FindUnusedParameters = true });
        replica.Reducer.Dispose();
        var losses = Enumerable.Range(0, 2).Select(rank => Branchy.Loss("a", rank)).ToList();
        var expected = again.Expected(losses);
        again.ZeroGradients();
        again.Pass(losses[again.Rank]);
        again.RequireGradients(expected);
    });

    [Fact]
    public void Forward_ParameterOfTwoModels_SaysSo()
    {
        Assert.SkipUnless(FabricSharp.Interop.LibTorch.GradientHooks.IsSupported, "Without hooks each reducer looks for gradients itself.");
        Replica<Branchy>.Run(2, () => new Branchy(), replica =>
        {
            using var other = new Replica<Branchy>(replica.Module, replica.Group, FindUnused);
            Assert.Contains("trunk.weight", Assert.Throws<InvalidOperationException>(replica.Reducer.BeforeForward).Message);
        }, FindUnused);
    }

    [Fact]
    public void Backward_ThatThrowsOnOneRank_IsAnErrorOnAll()
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica =>
        {
            if (replica.Rank == 1)
                Fail(replica);
            else
                replica.Pass(Branchy.Loss("abc", 0));
            replica.Reducer.BeforeForward();
        });
        Assert.All(failures, failure => Assert.Contains("ended in an exception on rank 1", Assert.IsType<DistributedException>(failure).Message));
    }

    [Fact]
    public void Forward_ThatThrowsOnAllRanks_IsForgotten() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        Assert.Throws<InvalidOperationException>(() => replica.Pass(_ => throw new InvalidOperationException("no")));
        replica.Pass(Branchy.Loss("abc", replica.Rank));
        replica.Reducer.BeforeStep();
    });

    [Fact]
    public void Forward_MoreOftenOnOneRank_IsAnErrorOnAll()
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica =>
        {
            if (replica.Rank == 1)
                replica.Reducer.BeforeForward(); // an evaluation with gradients enabled
            replica.Pass(Branchy.Loss("abc", replica.Rank));
        });
        Assert.All(failures, failure => Assert.Contains("rank 0: 1, rank 1: 2", Assert.IsType<DistributedException>(failure).Message));
    }

    [Fact]
    public void Step_RankThatTookNoPart_ContributesZeros() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        if (replica.Rank == 0)
            replica.Pass(m => m.Trunk.weight!.sum() * 4);
        else
            replica.Reducer.BeforeForward(); // the loss was not worth a backward pass
        replica.Reducer.BeforeStep();
        Assert.True(replica.Module.Trunk.weight!.grad!.eq(2).all().item<bool>());
    }, FindUnused);

    [Fact]
    public void Rank_ThatLeaves_EndsThePassOfTheOthers()
    {
        var failures = Collectives.RankThreads.RunEach(2, MakeLeaver());
        var e = Assert.IsType<PeerFailedException>(failures[0]);
        Assert.Equal(1, e.FailedRank);
        Assert.Null(failures[1]);
    }

    private static Action<int> MakeLeaver()
    {
        var store = new HashStore();
        return rank =>
        {
            using var group = ProcessGroup.Create("shm", store, rank, 2, Collectives.GroupOfThreads.Limit);
            using var scope = NewDisposeScope();
            var replica = new Replica<Branchy>(new Branchy(), group);
            if (rank == 0)
                replica.Pass(Branchy.Loss("abc", 0));
        };
    }

    private static void RequireSame(Replica<Branchy> replica, Tensor gradient)
    {
        var all = zeros([replica.Group.Size, .. gradient.shape]);
        replica.Group.AllGather(all, gradient.clone()).Wait();
        Assert.True(all[0].Equals(all[1]), all.str());
    }

    /// <summary>A backward pass that throws after the gradients of one branch have come: a tensor that it needs was changed.</summary>
    private static void MixedPass(Replica<Branchy> replica, bool forwardSynchronizes, Func<Branchy, Tensor> loss)
    {
        replica.Reducer.RequiresSynchronization = forwardSynchronizes;
        replica.Reducer.BeforeForward();
        var value = loss(replica.Module);
        replica.Reducer.RequiresSynchronization = !forwardSynchronizes;
        replica.Reducer.BeforeBackward();
        value.backward();
        replica.Reducer.AfterBackward();
        replica.Reducer.RequiresSynchronization = true;
    }

    private static void Fail(Replica<Branchy> replica)
    {
        replica.Reducer.BeforeForward();
        var changed = replica.Module.Trunk.weight!.exp();
        var loss = changed.sum() + replica.Module.BranchA.call(full([1, 4], replica.Rank + 1.0)).sum() * (replica.Rank + 1);
        changed.add_(1);
        replica.Reducer.BeforeBackward();
        Assert.ThrowsAny<System.Runtime.InteropServices.ExternalException>(() => loss.backward());
        Assert.NotNull(replica.Module.BranchA.weight!.grad);
        replica.Reducer.BackwardFailed();
    }
}
