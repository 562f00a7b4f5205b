using FabricSharp.DataParallel;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Communication hooks against their definitions, computed plainly from every rank's gradients.</summary>
public class CommunicationHookTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public void AllReduce_Hook_EqualsNoHook(int ranks) => Run(ranks, CommunicationHook.AllReduce, (replica, step) =>
    {
        var losses = Losses(ranks, step);
        var expected = replica.Expected(losses);
        replica.Pass(losses[replica.Rank]);
        replica.RequireGradients(expected);
    });

    [Theory]
    [InlineData(ScalarType.Float16)]
    [InlineData(ScalarType.BFloat16)]
    public void Cast_Hook_IsTheSumOfRoundedShares(ScalarType type) => Run(2, type == ScalarType.Float16 ? CommunicationHook.Float16() : CommunicationHook.BFloat16(), (replica, step) =>
    {
        var local = LocalGradients(replica, Losses(2, step));
        replica.Pass(Losses(2, step)[replica.Rank]);
        foreach (var (name, parameter) in replica.Module.named_parameters())
        {
            var shares = local[name].Select(gradient => gradient.to(type).to(ScalarType.Float32).mul(0.5).to(type).to(ScalarType.Float32));
            var expected = shares.Aggregate((x, y) => x + y).to(type).to(ScalarType.Float32);
            Assert.True(expected.allclose(parameter.grad!, rtol: type == ScalarType.Float16 ? 2e-3 : 1.6e-2, atol: 1e-7), name);
            Assert.True(parameter.grad!.to(type).to(ScalarType.Float32).Equals(parameter.grad), $"{name} has more digits than {type}");
        }
    });

    [Fact]
    public void None_Hook_LeavesGradientsLocal() => Run(2, CommunicationHook.None, (replica, step) =>
    {
        var local = LocalGradients(replica, Losses(2, step));
        replica.Pass(Losses(2, step)[replica.Rank]);
        foreach (var (name, parameter) in replica.Module.named_parameters())
            Assert.True(local[name][replica.Rank].allclose(parameter.grad!), name);
    });

    [Fact]
    public void Own_Hook_GetsWholeBucketsInOrder()
    {
        var seen = new System.Collections.Concurrent.ConcurrentQueue<(int Rank, int Index, bool IsLast, int Tensors)>();
        var hook = CommunicationHook.FromFunction("double", bucket =>
        {
            seen.Enqueue((bucket.Group.Rank, bucket.Index, bucket.IsLast, bucket.Gradients.Count));
            Assert.Equal(bucket.Buffer.numel(), bucket.Gradients.Sum(gradient => gradient.numel()));
            Assert.All(bucket.Gradients.Zip(bucket.Parameters), pair => Assert.Equal(pair.Second.shape, pair.First.shape));
            Assert.False(is_grad_enabled());
            bucket.Group.AllReduce(bucket.Buffer).Wait();
            return bucket.Buffer * 2;
        });
        Replica<Branchy>.Run(2, () => new Branchy(), replica =>
        {
            replica.Pass(m => m.Trunk.weight!.sum() + Branchy.Loss("abc", replica.Rank)(m) * 0);
            Assert.True(replica.Module.Trunk.weight!.grad!.eq(4).all().item<bool>());
        }, new DDPOptions { CommunicationHook = hook, BucketCapMb = 1e-4 });
        Assert.All(seen.GroupBy(call => call.Rank), calls =>
        {
            Assert.Equal(Enumerable.Range(0, calls.Count()), calls.Select(call => call.Index));
            Assert.True(calls.Count() > 1 && calls.Last().IsLast && calls.Count(call => call.IsLast) == 1);
            Assert.Equal(8, calls.Sum(call => call.Tensors));
        });
    }

    [Fact]
    public void Hook_UnusedParameters_KeepTheirGradientsAndBucketsNobodyUsedAreSkipped()
    {
        var calls = 0;
        var hook = CommunicationHook.FromFunction("count", bucket =>
        {
            Interlocked.Increment(ref calls);
            bucket.Group.AllReduce(bucket.Buffer, FabricSharp.Collectives.ReduceOp.Average).Wait();
            return bucket.Buffer;
        });
        Replica<Branchy>.Run(2, () => new Branchy(), replica =>
        {
            var losses = new[] { Branchy.Loss("a", 0), Branchy.Loss("ab", 1) };
            var expected = replica.Expected(losses);
            replica.Pass(losses[replica.Rank]);
            replica.RequireGradients(expected);
            var before = replica.Module.BranchA.weight!.grad!.clone();
            replica.Group.Barrier().Wait();
            Interlocked.Exchange(ref calls, 0);
            replica.Group.Barrier().Wait();
            replica.Pass(m => m.Trunk.weight!.sum());
            Assert.True(before.Equals(replica.Module.BranchA.weight.grad!));
        }, new DDPOptions { CommunicationHook = hook, FindUnusedParameters = true, BucketCapMb = 1e-6 });
        Assert.Equal(2, calls); // one bucket on each rank
    }

    [Theory]
    [InlineData(1, true, true)]
    [InlineData(2, true, true)]
    [InlineData(2, false, true)]
    [InlineData(2, true, false)]
    [InlineData(2, false, false)]
    public void PowerSgd_TwoRanks_FollowsItsDefinition(int rank, bool errorFeedback, bool warmStart)
    {
        const int Start = 2;
        Replica<Matrices>.Run(2, () => new Matrices(), replica =>
        {
            var reference = new PlainPowerSgd(errorFeedback, warmStart);
            for (var step = 0; step < 6; step++)
            {
                replica.ZeroGradients();
                var losses = Enumerable.Range(0, 2).Select(r => Matrices.Loss(r, step)).ToList();
                var local = LocalGradients(replica, losses);
                replica.Pass(losses[replica.Rank]);
                var found = replica.Module.named_parameters().ToDictionary(p => p.name, p => p.parameter.grad!);
                RequireClose(local["bias"].Aggregate((x, y) => x + y) / 2, found["bias"]); // a vector is never compressed
                if (step < Start)
                    RequireClose(local["weight"].Aggregate((x, y) => x + y) / 2, found["weight"]);
                else
                    reference.Check(local["weight"], found["weight"], rank);
            }
        }, new DDPOptions { CommunicationHook = new PowerSgdHook(rank, Start, useErrorFeedback: errorFeedback, warmStart: warmStart) });
    }

    [Theory]
    [InlineData("allreduce", ScalarType.BFloat16)]
    [InlineData("fp16", ScalarType.BFloat16)]
    [InlineData("bf16", ScalarType.BFloat16)]
    [InlineData("powersgd", ScalarType.BFloat16)]
    [InlineData("allreduce", ScalarType.Float16)]
    [InlineData("fp16", ScalarType.Float16)]
    [InlineData("bf16", ScalarType.Float16)]
    [InlineData("powersgd", ScalarType.Float16)]
    public void Hooks_ModelInSixteenBits_AverageInItsType(string name, ScalarType type) => Replica<Matrices>.Run(2, () => new Matrices(type), replica =>
    {
        for (var step = 0; step < 4; step++)
        {
            replica.ZeroGradients();
            replica.Pass(m => (m.Weight * (outer(arange(12, ScalarType.Float32), ones(10)) * (replica.Rank + 1)).to(type)).sum() + m.Bias.sum());
            Assert.Equal(type, replica.Module.Weight.grad!.dtype);
            var found = replica.Module.Weight.grad.to(ScalarType.Float32);
            Assert.True(found.allclose(outer(arange(12, ScalarType.Float32), ones(10)) * 1.5, rtol: 0.03, atol: 0.03), $"step {step}: {found.str()}");
        }

        replica.RequireEqualReplicas();
    }, new DDPOptions
    {
        CommunicationHook = name switch
        {
            "allreduce" => CommunicationHook.AllReduce,
            "fp16" => CommunicationHook.Float16(),
            "bf16" => CommunicationHook.BFloat16(),
            _ => new PowerSgdHook(1, startIteration: 2),
        },
    });

    [Fact]
    public void PowerSgd_MatrixOfLowRank_IsExact() => Replica<Matrices>.Run(2, () => new Matrices(), replica =>
    {
        for (var step = 0; step < 4; step++)
        {
            replica.ZeroGradients();
            replica.Pass(m => (m.Weight * outer(arange(12, ScalarType.Float32), arange(10, ScalarType.Float32)) * (replica.Rank + 1)).sum() + m.Bias.sum());
            RequireClose(outer(arange(12, ScalarType.Float32), arange(10, ScalarType.Float32)) * 1.5, replica.Module.Weight.grad!);
        }
    }, new DDPOptions { CommunicationHook = new PowerSgdHook(1, startIteration: 2) });

    [Fact]
    public void PowerSgd_ZeroGradient_StaysZero() => Replica<Matrices>.Run(2, () => new Matrices(), replica =>
    {
        for (var step = 0; step < 4; step++)
        {
            replica.ZeroGradients();
            replica.Pass(m => (m.Weight * 0).sum() + m.Bias.sum());
            Assert.True(replica.Module.Weight.grad!.eq(0).all().item<bool>());
        }
    }, new DDPOptions { CommunicationHook = new PowerSgdHook(1, startIteration: 2) });

    [Fact]
    public void PowerSgd_BadOptions_AreReportedAllAtOnce()
    {
        var e = Assert.Throws<ArgumentException>(() => new PowerSgdHook(rank: 0, startIteration: 1, minCompressionRate: -1, orthogonalizationEpsilon: double.NaN));
        Assert.All(["rank: 0", "startIteration: 1", "minCompressionRate: -1", "orthogonalizationEpsilon"], text => Assert.Contains(text, e.Message));
        _ = new PowerSgdHook(startIteration: 0, useErrorFeedback: false, warmStart: false);
    }

    [Fact]
    public void Register_TwiceOrLate_IsRefused() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Reducer.Register(CommunicationHook.Float16());
        Assert.Contains("can only be called once", Assert.Throws<InvalidOperationException>(() => replica.Reducer.Register(CommunicationHook.AllReduce)).Message);
        replica.Pass(Branchy.Loss("abc", replica.Rank));
        Assert.Equal("fp16_compress", replica.Reducer.LoggingData().CommunicationHook);
        using var second = new GradientReducer(replica.Module, replica.Group, new DDPOptions(), []);
        second.BeforeForward();
        Assert.Contains("before the first forward pass", Assert.Throws<InvalidOperationException>(() => second.Register(CommunicationHook.AllReduce)).Message);
        replica.Group.Barrier().Wait();
    });

    [Fact]
    public void Hooks_DifferBetweenRanks_AreNamed()
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica =>
            replica.Reducer.Register(replica.Rank == 0 ? CommunicationHook.Float16() : CommunicationHook.BFloat16()));
        Assert.All(failures, failure => Assert.Contains("fp16_compress", Assert.IsType<InvalidOperationException>(failure).Message));
    }

    [Fact]
    public void Hook_ResultOfAnotherSize_IsAnErrorOnAllRanks()
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica =>
        {
            replica.Pass(Branchy.Loss("abc", replica.Rank));
            replica.Reducer.BeforeStep();
        }, new DDPOptions { CommunicationHook = CommunicationHook.FromFunction("short", bucket => bucket.Buffer.narrow(0, 0, 1)) });
        Assert.All(failures, Assert.NotNull);
        Assert.Contains(failures, failure => failure!.Message.Contains("The communication hook 'short' returned 1 elements"));
    }

    [Fact]
    public void Hook_Throws_TheOthersDoNotWait()
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica => replica.Pass(Branchy.Loss("abc", replica.Rank)), new DDPOptions
        {
            CommunicationHook = CommunicationHook.FromFunction("throws", bucket =>
            {
                if (bucket.Group.Rank == 1)
                    throw new FormatException("no");
                bucket.Group.AllReduce(bucket.Buffer).Wait();
                return bucket.Buffer;
            }),
        });
        Assert.IsType<FormatException>(failures[1]);
        Assert.IsAssignableFrom<FabricSharp.Collectives.DistributedException>(failures[0]);
    }

    private static void Run(int ranks, CommunicationHook hook, Action<Replica<Branchy>, int> body) => Replica<Branchy>.Run(ranks, () => new Branchy(), replica =>
    {
        for (var step = 0; step < 3; step++)
        {
            replica.ZeroGradients();
            body(replica, step);
        }
    }, new DDPOptions { CommunicationHook = hook, BucketCapMb = 2e-4 });

    private static List<Func<Branchy, Tensor>> Losses(int ranks, int step) => [.. Enumerable.Range(0, ranks).Select(rank => Branchy.Loss("abc", rank, step))];

    /// <summary>For each parameter the gradient of each rank's loss.</summary>
    private static Dictionary<string, List<Tensor>> LocalGradients<TModule>(Replica<TModule> replica, IEnumerable<Func<TModule, Tensor>> losses)
        where TModule : nn.Module
    {
        var all = replica.Module.named_parameters().ToDictionary(p => p.name, _ => new List<Tensor>());
        replica.Reducer.RequiresSynchronization = false;
        replica.Reducer.BeforeForward();
        foreach (var loss in losses)
        {
            replica.ZeroGradients();
            loss(replica.Module).backward();
            foreach (var (name, parameter) in replica.Module.named_parameters())
                all[name].Add(parameter.grad!.clone());
        }

        replica.ZeroGradients();
        replica.Reducer.RequiresSynchronization = true;
        return all;
    }

    private static void RequireClose(Tensor expected, Tensor found) =>
        Assert.True(expected.allclose(found, 1e-4, 1e-5), $"{expected.str()} expected, {found.str()} found");

    /// <summary>
    /// What can be said of PowerSGD's result without knowing its random numbers: it is the average of all ranks' inputs projected on a space of r columns,
    /// P·Pᵀ·M with P an orthonormal basis of the result's columns; and with error feedback the inputs contain what was lost before.
    /// </summary>
    private sealed class PlainPowerSgd(bool errorFeedback, bool warmStart)
    {
        private Tensor?[] _errors = [null, null];
        private Tensor? _previous;

        public void Check(List<Tensor> gradients, Tensor found, int rank)
        {
            var inputs = gradients.Select((gradient, i) => errorFeedback && _errors[i] is { } error ? gradient + error : gradient).ToArray();
            var average = inputs.Aggregate((x, y) => x + y) / inputs.Length;
            var (u, s, vh) = linalg.svd(found, fullMatrices: false);
            Assert.True(s[rank].item<float>() < 1e-4 * s[0].item<float>(), "the result has a higher rank than asked for");
            var basis = u.narrow(1, 0, rank);
            RequireClose(basis.matmul(basis.t()).matmul(average), found);
            var (range, _, _) = linalg.svd(average, fullMatrices: false);
            RequireClose(range.matmul(range.t().matmul(basis)), basis); // P is the average times one Q: it would leave its range if the ranks' Qs differed
            if (warmStart && _previous is not null)
                RequireClose(basis.matmul(basis.t()).matmul(Columns(average, _previous, rank)), Columns(average, _previous, rank)); // P spans M·(last Q)
            _previous = vh.narrow(0, 0, rank).t().clone();
            _errors = [.. inputs.Select(input => input - found)];
        }

        private static Tensor Columns(Tensor average, Tensor lastQ, int rank) => average.matmul(lastQ.narrow(1, 0, rank));
    }

    private sealed class Matrices : nn.Module
    {
        private readonly TorchSharp.Modules.Parameter weight;
        private readonly TorchSharp.Modules.Parameter bias;

        public Matrices(ScalarType type = ScalarType.Float32)
            : base(nameof(Matrices))
        {
            (weight, bias) = (new(randn(12, 10).to(type)), new(randn(10).to(type)));
            RegisterComponents();
        }

        public TorchSharp.Modules.Parameter Weight => weight;

        public TorchSharp.Modules.Parameter Bias => bias;

        public static Func<Matrices, Tensor> Loss(int rank, int step) => module =>
        {
            var x = randn([20, 12], generator: new Generator((ulong)(100 * step + rank + 1)));
            return (x.matmul(module.weight) + module.bias).tanh().square().sum();
        };
    }
}
