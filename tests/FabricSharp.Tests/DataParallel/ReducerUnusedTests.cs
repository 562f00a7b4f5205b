using FabricSharp.DataParallel;
using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Parameters that take no part in a pass.</summary>
public class ReducerUnusedTests
{
    private static readonly DDPOptions FindUnused = new() { FindUnusedParameters = true };

    [Theory]
    [InlineData("ab", "ab", "c.weight, no gradient on all ranks")]
    [InlineData("abc", "ab", "c.weight, no gradient on rank 1")]
    [InlineData("ab", "bc", "a.weight, no gradient on rank 1")]
    public void FlagOff_Unused_IsAnErrorOnEveryRankAtTheNextForward(string onZero, string onOne, string text)
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica =>
        {
            replica.Pass(Branchy.Loss(replica.Rank == 0 ? onZero : onOne, replica.Rank));
            replica.Reducer.BeforeForward();
        });
        for (var rank = 0; rank < 2; rank++)
        {
            var e = Assert.IsType<UnfinishedReductionException>(failures[rank]);
            Assert.StartsWith("Expected to have finished reduction in the prior iteration before starting a new one.", e.Message);
            Assert.Contains(text, e.Message);
            Assert.Contains("strategy: \"ddp_find_unused_parameters_true\"", e.Message);
            Assert.Contains("new DDPStrategy(findUnusedParameters: true)", e.Message);
            Assert.Equal(rank, e.Rank);
            Assert.Equal(e.ParameterNames.Count, e.ParameterIndices.Count);
            var names = new Branchy().named_parameters().Select(p => p.name).ToList();
            Assert.Equal(e.ParameterNames, e.ParameterIndices.Select(i => names[i]));
        }
    }

    [Fact]
    public void FlagOff_UnusedInTheOnlyPass_IsAnErrorAtTheStepAndStaysOne() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Pass(Branchy.Loss("a", replica.Rank));
        for (var i = 0; i < 2; i++)
        {
            var e = Assert.Throws<UnfinishedReductionException>(replica.Reducer.BeforeStep);
            Assert.Equal(["b.weight", "b.bias", "c.weight", "c.bias"], e.ParameterNames);
            Assert.Equal([4, 5, 6, 7], e.ParameterIndices);
            Assert.Throws<UnfinishedReductionException>(replica.Reducer.BeforeForward);
        }
    });

    [Fact]
    public void FlagOff_NewReducerAfterTheError_Works() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Pass(Branchy.Loss("a", replica.Rank));
        Assert.Throws<UnfinishedReductionException>(replica.Reducer.BeforeForward);
        replica.Reducer.Dispose();
        replica.ZeroGradients();
        using var again = new Replica<Branchy>(replica.Module, replica.Group, FindUnused);
        RequireAverage(again, ["a", "ab"], 0);
    });

    public static TheoryData<string[]> Takes => new()
    {
        new[] { "a", "a" },
        new[] { "a", "b" },
        new[] { "abc", "b" },
        new[] { "abc", "abc" },
        new[] { "a", "b", "c" },
        new[] { "abc", "a", "a", "b" },
    };

    [Theory]
    [MemberData(nameof(Takes))]
    public void FlagOn_BranchesOfEachRank_GiveTheAverageOrNothing(string[] takes) => Replica<Branchy>.Run(takes.Length, () => new Branchy(), replica =>
    {
        for (var step = 0; step < 4; step++)
        {
            replica.ZeroGradients();
            RequireAverage(replica, takes, step);
        }
    }, FindUnused);

    [Theory]
    [InlineData(true, 25)]
    [InlineData(false, 25)]
    [InlineData(true, 1e-6)]
    public void FlagOn_RandomBranchesOverManySteps_FollowTheReference(bool views, double cap) => Replica<Branchy>.Run(3, () => new Branchy(), replica =>
    {
        string[] choices = ["a", "b", "c", "ab", "bc", "ac", "abc"];
        var random = new Random(7);
        var optimizer = optim.SGD(replica.Module.parameters(), 0.05, momentum: 0.9);
        for (var step = 0; step < 100; step++)
        {
            using var scope = NewDisposeScope();
            if (random.Next(4) > 0)
                replica.ZeroGradients();
            var takes = Enumerable.Range(0, 3).Select(_ => choices[random.Next(choices.Length)]).ToArray();
            RequireAverage(replica, takes, step, before: replica.Module.named_parameters().ToDictionary(p => p.name, p => p.parameter.grad?.clone()));
            replica.Reducer.BeforeStep();
            optimizer.step();
        }

        replica.RequireEqualReplicas();
        Assert.Equal(100, replica.Reducer.UnusedParameters.Passes);
    }, new DDPOptions { FindUnusedParameters = true, GradientAsBucketView = views, BucketCapMb = cap, FirstBucketMb = cap });

    [Fact]
    public void FlagOn_UnusedEverywhere_LeavesTheGradientAsItWas() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var weight = replica.Module.BranchA.weight!;
        replica.Pass(Branchy.Loss("bc", replica.Rank));
        Assert.Null(weight.grad);
        weight.grad = full_like(weight, 5 + replica.Rank);
        replica.Pass(Branchy.Loss("bc", replica.Rank));
        Assert.True(weight.grad.eq(5 + replica.Rank).all().item<bool>());
    }, FindUnused);

    [Fact]
    public void FlagOn_UsedOnOneOfTwo_GivesHalfToBoth() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var weight = replica.Module.BranchA.weight!;
        replica.Pass(m => replica.Rank == 0 ? m.BranchA.weight!.sum() * 6 : m.Trunk.weight!.sum());
        Assert.True(weight.grad!.eq(3).all().item<bool>());
        Assert.True(replica.Module.Trunk.weight!.grad!.eq(0.5).all().item<bool>());
    }, FindUnused);

    [Fact]
    public void FlagOn_LossIndependentOfTheModelOnOneRank_CountsAsZeros() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var free = ones(1).requires_grad_();
        for (var step = 0; step < 3; step++)
        {
            replica.ZeroGradients();
            replica.Pass(m => replica.Rank == 0 ? m.BranchA.weight!.sum() * 2 : free.sum());
            Assert.True(replica.Module.BranchA.weight!.grad!.eq(1).all().item<bool>());
            Assert.Null(replica.Module.Trunk.weight!.grad);
        }
    }, FindUnused);

    [Fact]
    public void FlagOn_NothingUsedAnywhere_LeavesAllAlone() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var free = ones(1).requires_grad_();
        for (var step = 0; step < 3; step++)
            replica.Pass(_ => free.sum());
        Assert.All(replica.Module.parameters(), p => Assert.Null(p.grad));
        RequireAverage(replica, ["abc", "a"], 0);
    }, FindUnused);

    [Fact]
    public void FlagOn_OutputsThatTheLossIgnores_AreNoError() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Pass(m =>
        {
            m.Take = "b";
            m.call(ones(1, 4));
            return Branchy.Loss("a", replica.Rank)(m) + m.BranchA.bias!.pow(2).sum(); // and a penalty outside forward
        });
        Assert.NotNull(replica.Module.BranchA.bias!.grad);
        Assert.Equal(["b.weight", "b.bias", "c.weight", "c.bias"], replica.Reducer.UnusedParameters.Parameters.Select(p => p.Name));
    }, FindUnused);

    [Fact]
    public void FlagOn_UnusedParameters_AreNotSent()
    {
        Assert.SkipUnless(GradientHooks.IsSupported, GradientHooks.NotSupportedReason ?? "");
        Replica<Branchy>.Run(2, () => new Branchy(), replica =>
        {
            replica.Pass(Branchy.Loss("a", replica.Rank)); // learns who is unused
            var before = replica.Reducer.BytesSent;
            replica.Pass(Branchy.Loss("a", replica.Rank));
            var (trunk, branch) = ((16 + 4) * 4, (12 + 3) * 4);
            Assert.InRange(replica.Reducer.BytesSent - before, trunk + branch, trunk + branch + 4 * 64); // with the gaps to cache lines
        }, FindUnused);
    }

    [Fact]
    public void FlagOn_EverythingUsed_SendsEachByteOnce()
    {
        Replica<Branchy>.Run(2, () => new Branchy(), replica =>
        {
            for (var step = 0; step < 3; step++)
                replica.Pass(Branchy.Loss("abc", replica.Rank));
            Assert.InRange(replica.Reducer.BytesSent, 3 * (20 + 45) * 4, 3 * ((20 + 45) * 4 + 8 * 64));
            Assert.Empty(replica.Reducer.UnusedParameters.Parameters);
        }, FindUnused);
    }

    [Fact]
    public void FlagOn_Report_CountsByRank() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Pass(Branchy.Loss(replica.Rank == 0 ? "ab" : "b", replica.Rank));
        replica.Pass(Branchy.Loss("abc", replica.Rank));
        var report = replica.Reducer.UnusedParameters;
        Assert.Equal(2, report.Passes);
        Assert.Equal(
            [new("a.weight", replica.Rank, 1, 0), new("a.bias", replica.Rank, 1, 0), new("c.weight", 1, 1, 1), new("c.bias", 1, 1, 1)],
            report.Parameters);
    }, FindUnused);

    [Fact]
    public void FlagOn_FrozenAfterwards_BehavesAsUnused() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Module.BranchA.weight!.requires_grad = false;
        replica.Pass(Branchy.Loss("abc", replica.Rank));
        Assert.Null(replica.Module.BranchA.weight.grad);
        Assert.Equal(["a.weight"], replica.Reducer.UnusedParameters.Parameters.Select(p => p.Name));
    }, FindUnused);

    private static void RequireAverage(Replica<Branchy> replica, string[] takes, int step, Dictionary<string, Tensor?>? before = null)
    {
        var losses = takes.Select((take, rank) => Branchy.Loss(take, rank, step)).ToList();
        var expected = replica.Expected(losses);
        if (before is not null)
            expected = expected.ToDictionary(p => p.Key, p => before[p.Key] is { } old ? (p.Value is { } added ? old + added : old) : p.Value);
        replica.Pass(losses[replica.Rank]);
        replica.RequireGradients(expected);
    }
}
