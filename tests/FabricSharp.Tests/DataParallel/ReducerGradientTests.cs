using FabricSharp.DataParallel;
using FabricSharp.Interop.LibTorch;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Models whose parameters all take part: gradients are the average over the ranks.</summary>
public class ReducerGradientTests
{
    private static readonly Dictionary<string, Func<nn.Module>> Models = new()
    {
        ["perceptron"] = () => nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)),
        ["convolution and batch norm"] = () => nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)),
        ["LSTM"] = () => nn.LSTM(6, 5, numLayers: 2),
        ["embedding"] = () => nn.Embedding(10, 4),
        ["transformer"] = () => nn.TransformerEncoderLayer(8, 2, 16, dropout: 0),
        ["attention"] = () => nn.MultiheadAttention(8, 2),
        ["tied linears"] = () => new TiedLinears(),
        ["tied embedding"] = () => new TiedEmbedding(),
        ["odd parameters"] = () => new OddParameters(),
    };

    public static TheoryData<string, int, bool> ModelsAndRanks =>
        [.. from name in Models.Keys from ranks in new[] { 1, 2, 3 } from views in new[] { true, false } where views || ranks == 2 select (name, ranks, views)];

    [Theory]
    [MemberData(nameof(ModelsAndRanks))]
    public void Pass_OfAnyModel_GivesTheAverageGradient(string name, int ranks, bool views) => Run(ranks, Models[name], replica =>
    {
        replica.RequireEqualReplicas();
        for (var step = 0; step < 3; step++)
        {
            var losses = Enumerable.Range(0, ranks).Select(rank => new Func<nn.Module, Tensor>(m => LossOf(m, 10 * step + rank))).ToList();
            var expected = replica.Expected(losses);
            replica.ZeroGradients();
            replica.Pass(losses[replica.Rank]);
            replica.RequireGradients(expected);
            using (no_grad())
                foreach (var parameter in replica.Module.parameters())
                    parameter.sub_(parameter.grad! * 0.1);
        }
    }, new DDPOptions { GradientAsBucketView = views, BroadcastBuffers = false });

    [Fact]
    public void Pass_GradientsTwoAndFour_GivesThreeOnBoth() => Replica<TiedLinears>.Run(2, () => new TiedLinears(), replica =>
    {
        replica.Pass(m => m.Weight.sum() * (2 + 2 * replica.Rank));
        Assert.True(replica.Module.Weight.grad!.eq(3).all().item<bool>());
    });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Pass_WithoutZeroing_AddsTheAverages(bool views) => Replica<TiedLinears>.Run(2, () => new TiedLinears(), replica =>
    {
        replica.Pass(m => m.Weight.sum() * (2 + 2 * replica.Rank));
        replica.Pass(m => m.Weight.sum() * (10 + 2 * replica.Rank));
        Assert.True(replica.Module.Weight.grad!.eq(14).all().item<bool>());
    }, new DDPOptions { GradientAsBucketView = views });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Pass_GradientChangedByTheUser_TakesItAsItIs(bool views) => Replica<TiedLinears>.Run(2, () => new TiedLinears(), replica =>
    {
        var weight = replica.Module.Weight;
        void Pass() => replica.Pass(m => m.Weight.sum() * (2 + 2 * replica.Rank));
        Pass();
        weight.grad = null;
        Pass();
        Assert.True(weight.grad!.eq(3).all().item<bool>());
        weight.grad!.zero_();
        Pass();
        Assert.True(weight.grad!.eq(3).all().item<bool>());
        weight.grad = full_like(weight, 100);
        Pass();
        Assert.True(weight.grad!.eq(103).all().item<bool>());
        weight.grad = full([3, 4], 1000.0).t();
        Pass();
        Assert.True(weight.grad!.eq(1003).all().item<bool>());
    }, new DDPOptions { GradientAsBucketView = views });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Gradient_AsBucketView_SharesItsMemoryWithTheOthers(bool views)
    {
        Assert.SkipUnless(GradientHooks.IsSupported, GradientHooks.NotSupportedReason ?? "");
        Replica<Branchy>.Run(2, () => new Branchy(), replica =>
        {
            for (var step = 0; step < 3; step++)
                replica.Pass(Branchy.Loss("abc", replica.Rank, step));
            var offsets = replica.Module.parameters().Select(p => p.grad!.storage_offset()).ToList();
            Assert.Equal(views ? 8 : 1, offsets.Distinct().Count()); // places in one bucket, or tensors of their own
            if (views)
                Assert.All(offsets, offset => Assert.Equal(0, offset * 4 % 64));
        }, new DDPOptions { GradientAsBucketView = views });
    }

    [Fact]
    public void Gradient_AfterTheReducerIsGone_StaysReadable() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Pass(Branchy.Loss("abc", replica.Rank));
        var before = replica.Module.Trunk.weight!.grad!.clone();
        replica.Reducer.Dispose();
        replica.Reducer.Dispose();
        Assert.True(before.Equals(replica.Module.Trunk.weight.grad!));
        Branchy.Loss("abc", 0)(replica.Module).backward(); // plain again
        Assert.Throws<ObjectDisposedException>(replica.Reducer.BeforeForward);
    });

    [Fact]
    public void Buckets_AfterTheFirstPass_FollowTheOrderOfArrival() => Run(2, () => nn.Sequential(Enumerable.Range(0, 8).Select(i => ($"{i}", (nn.Module<Tensor, Tensor>)nn.Linear(256, 256))).ToArray()), replica =>
    {
        Assert.Equal([1_053_696, 1_051_648], replica.Reducer.BucketSizes);
        for (var step = 0; step < 3; step++)
        {
            replica.Pass(m => ((Sequential)m).call(ones(1, 256)).sum());
            Assert.Equal(2_105_344, replica.Reducer.BucketSizes.Sum());
            Assert.True(replica.Reducer.BucketSizes[0] >= 1 << 20);
        }
    });

    [Fact]
    public void Buckets_Tiny_GiveTheSameGradients() => Replica<Branchy>.Run(3, () => new Branchy(), replica =>
    {
        for (var step = 0; step < 3; step++)
        {
            var losses = Enumerable.Range(0, 3).Select(rank => Branchy.Loss("abc", rank, step)).ToList();
            var expected = replica.Expected(losses);
            replica.ZeroGradients();
            replica.Pass(losses[replica.Rank]);
            replica.RequireGradients(expected);
            Assert.Equal(8, replica.Reducer.BucketSizes.Count);
        }
    }, new DDPOptions { BucketCapMb = 1e-6, FirstBucketMb = 1e-6 });

    [Fact]
    public void Parameters_AfterManySteps_AreBitwiseEqual() => Replica<Branchy>.Run(3, () => new Branchy(), replica =>
    {
        var optimizer = optim.AdamW(replica.Module.parameters(), 0.01);
        for (var step = 0; step < 30; step++)
        {
            using var scope = NewDisposeScope();
            replica.ZeroGradients();
            replica.Pass(Branchy.Loss("abc", replica.Rank, step));
            replica.Reducer.BeforeStep();
            optimizer.step();
        }

        replica.RequireEqualReplicas();
    });

    [Fact]
    public void Forward_WithoutBackwardOrGradients_DoesNoHarm() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        var losses = Enumerable.Range(0, 2).Select(rank => Branchy.Loss("abc", rank)).ToList();
        var expected = replica.Expected(losses);
        replica.Reducer.BeforeForward();
        losses[0](replica.Module); // no backward
        using (no_grad())
        {
            replica.Reducer.BeforeForward();
            if (replica.Rank == 0)
                replica.Reducer.BeforeForward(); // evaluation on one rank only
        }

        replica.Pass(losses[replica.Rank]);
        replica.RequireGradients(expected);
    });

    [Fact]
    public void Frozen_Parameters_AreBroadcastButNotAveraged() => Replica<Branchy>.Run(
        2,
        () =>
        {
            var model = new Branchy();
            model.BranchA.weight!.requires_grad = false;
            return model;
        },
        replica =>
        {
            replica.RequireEqualReplicas();
            replica.Pass(Branchy.Loss("abc", replica.Rank));
            Assert.Null(replica.Module.BranchA.weight!.grad);
            Assert.False(replica.Reducer.Owns(replica.Module.BranchA.weight));
            Assert.True(replica.Reducer.Owns(replica.Module.BranchA.bias!));
        });

    public static TheoryData<string, string> WaysOfAveraging => new()
    {
        { "ab", "find unused" },
        { "ab", "copies" },
        { "ab", "without hooks" },
        { "ab", "communication hook" },
        { "abc", "static" },
        { "abc", "static, communication hook" },
        { "abc", "PowerSGD" },
    };

    [Theory]
    [MemberData(nameof(WaysOfAveraging))]
    public void Steps_Many_LeaveNoTensors(string everyOther, string way) => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        long before = 0;
        for (var step = 0; step < 120; step++)
        {
            using (NewDisposeScope())
            {
                replica.ZeroGradients();
                replica.Reducer.RequiresSynchronization = false;
                replica.Pass(Branchy.Loss("a", replica.Rank, step));
                replica.Reducer.RequiresSynchronization = true;
                replica.Pass(Branchy.Loss(step % 2 == 0 ? everyOther : "abc", replica.Rank, step));
                replica.Reducer.BeforeStep();
            }

            replica.Group.Barrier().Wait();
            if (step == 20 && replica.Rank == 0)
                before = Tensor.TotalCount;
            replica.Group.Barrier().Wait();
        }

        if (replica.Rank == 0)
            Assert.InRange(Tensor.TotalCount - before, long.MinValue, 20);
    }, new DDPOptions
    {
        FindUnusedParameters = !way.StartsWith("static", StringComparison.Ordinal),
        StaticGraph = way.StartsWith("static", StringComparison.Ordinal),
        GradientAsBucketView = way != "copies",
        UsesGradientHooks = way != "without hooks",
        CommunicationHook = way == "PowerSGD" ? new PowerSgdHook(minCompressionRate: 0.1, startIteration: 2) : way.EndsWith("communication hook", StringComparison.Ordinal) ? CommunicationHook.AllReduce : null,
    });

    private static void Run(int ranks, Func<nn.Module> make, Action<Replica<nn.Module>> body, DDPOptions? options = null) => Replica<nn.Module>.Run(ranks, make, body, options);

    private static Tensor LossOf(nn.Module module, int seed)
    {
        var generator = new Generator((ulong)seed + 1);
        Tensor Numbers(params long[] shape) => randn(shape, generator: generator);
        Tensor Words() => randint(10, [6], ScalarType.Int64, generator: generator);
        return module switch
        {
            Sequential s when s.children().First() is Linear first => Squared(s.call(Numbers(3, first.in_features))),
            Sequential s => Squared(s.call(Numbers(2, 3, 6, 6))),
            LSTM lstm => Squared(lstm.call(Numbers(4, 2, 6)).Item1),
            Embedding embedding => Squared(embedding.call(Words())),
            TransformerEncoderLayer layer => Cubed(layer.call(Numbers(5, 2, 8), null!, null!)),
            MultiheadAttention attention => Squared(attention.call(Numbers(5, 2, 8), Numbers(5, 2, 8), Numbers(5, 2, 8), null, false, null).Item1),
            TiedLinears tied => Squared(tied.call(Numbers(3, 3))),
            TiedEmbedding tied => Squared(tied.call(Words())),
            OddParameters odd => odd.call(Numbers(4)).mean(),
            _ => throw new ArgumentException(module.GetName()),
        };
    }

    private static Tensor Squared(Tensor y) => (y * y).mean();

    private static Tensor Cubed(Tensor y) => (y * y * y).mean(); // the mean square after a layer norm has no slope

    private sealed class TiedLinears : nn.Module<Tensor, Tensor>
    {
        private readonly Linear first = nn.Linear(3, 4, hasBias: false);
        private readonly Parameter same;

        public TiedLinears()
            : base(nameof(TiedLinears))
        {
            same = first.weight!;
            RegisterComponents();
        }

        public Parameter Weight => first.weight!;

        public override Tensor forward(Tensor x) => first.call(x).matmul(same);
    }

    private sealed class TiedEmbedding : nn.Module<Tensor, Tensor>
    {
        private readonly Embedding embedding = nn.Embedding(10, 4);
        private readonly Linear head = nn.Linear(4, 10, hasBias: false);

        public TiedEmbedding()
            : base(nameof(TiedEmbedding))
        {
            head.weight = embedding.weight!;
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => head.call(embedding.call(x));
    }

    /// <summary>A number, an empty one, one of doubles, one of bfloat16, a transposed and a channels-last one.</summary>
    private sealed class OddParameters : nn.Module<Tensor, Tensor>
    {
        private readonly Parameter scalar = new(tensor(0.5f), requires_grad: true);
        private readonly Parameter none = new(zeros(0, 3), requires_grad: true);
        private readonly Parameter wide = new(ones([4], ScalarType.Float64), requires_grad: true);
        private readonly Parameter narrow = new(ones([4], ScalarType.BFloat16), requires_grad: true);
        private readonly Parameter transposed = new(ones(3, 4).t(), requires_grad: true);
        private readonly Parameter images = new(ones(2, 2, 2, 3).permute(0, 3, 1, 2), requires_grad: true);

        public OddParameters()
            : base(nameof(OddParameters)) => RegisterComponents();

        public override Tensor forward(Tensor x) =>
            (x * scalar).to(ScalarType.Float64) * wide + (x.to(ScalarType.BFloat16) * narrow).to(ScalarType.Float64) + none.sum()
            + (transposed * x.unsqueeze(1)).pow(2).sum() + (images * x[0]).sum();
    }
}
