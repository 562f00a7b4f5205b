using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Tests.Checkpointing;
using FabricSharp.Tests.Collectives;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>The reference is TorchSharp's own batch normalisation of the whole batch in one process.</summary>
public class SyncBatchNormTests
{
    private const int Channels = 3;

    [Theory]
    [InlineData(2, "1d", new[] { 4, 4 })]
    [InlineData(2, "2d", new[] { 1, 5 })]
    [InlineData(3, "3d", new[] { 2, 1, 3 })]
    [InlineData(3, "1d with length", new[] { 3, 0, 2 })]
    [InlineData(4, "2d", new[] { 1, 1, 1, 1 })]
    public void Train_AgainstTheWholeBatch_SameOutputsGradientsAndStatistics(int ranks, string kind, int[] batches) => Compare(ranks, kind, batches, ScalarType.Float32, 0.1, 2e-5);

    [Theory]
    [InlineData("float64", 1e-12)]
    [InlineData("bfloat16", 0.05)]
    [InlineData("float16", 0.01)]
    public void Train_OtherTypes_AgreeWithinTheirPrecision(string type, double tolerance) =>
        Compare(2, "2d", [2, 3], type switch { "float64" => ScalarType.Float64, "bfloat16" => ScalarType.BFloat16, _ => ScalarType.Float16 }, 0.1, tolerance);

    [Fact]
    public void Train_MomentumNull_AveragesAllBatchesAlike() => Compare(2, "1d", [3, 2], ScalarType.Float32, null, 2e-5);

    [Fact]
    public void Train_LargeMeanSmallDeviation_DoesNotCancel() => Run(2, group =>
    {
        using var norm = new SyncBatchNorm(1, group);
        var all = (arange(8, ScalarType.Float64).reshape(8, 1) + 1e4).to(ScalarType.Float32);
        var output = norm.call(all.narrow(0, 4 * group.Rank, 4));
        var exact = (arange(8, ScalarType.Float64).reshape(8, 1) - 3.5) / Math.Sqrt(5.25);
        Assert.True(output.to(ScalarType.Float64).allclose(exact.narrow(0, 4 * group.Rank, 4), 2e-3, 2e-3), output.str());
    });

    [Fact]
    public void Train_WithoutAffineAndStatistics_NormalisesAndKeepsNothing() => Run(2, group =>
    {
        using var norm = new SyncBatchNorm(Channels, group, affine: false, track_running_stats: false);
        Assert.Empty(norm.state_dict());
        var whole = WholeBatch([4, 4], "1d", ScalarType.Float32).requires_grad_();
        var own = whole.detach().narrow(0, 4 * group.Rank, 4).clone().requires_grad_();
        var expected = nn.functional.batch_norm(whole, null, null, training: true);
        var output = norm.call(own);
        Close(expected.narrow(0, 4 * group.Rank, 4), output, 1e-5);
        Weighted(expected, 0).backward();
        Weighted(output, 4 * group.Rank).backward();
        Close(whole.grad!.narrow(0, 4 * group.Rank, 4), own.grad!, 1e-5);
        norm.eval();
        Close(nn.functional.batch_norm(own, null, null, training: true), norm.call(own), 1e-6); // as BatchNorm: this rank's batch
    });

    [Fact]
    public void Eval_UsesTheRunningStatisticsAndExchangesNothing() => Run(2, group =>
    {
        using var norm = new SyncBatchNorm(Channels, group);
        norm.call(WholeBatch([2, 3], "1d", ScalarType.Float32).narrow(0, 0, 2 + group.Rank));
        norm.eval();
        var mean = norm.running_mean!.clone();
        if (group.Rank == 0) // alone
            Close((ones(1, Channels) - mean) / (norm.running_var! + 1e-5).sqrt(), norm.call(ones(1, Channels)), 1e-5);
        Assert.True(mean.Equals(norm.running_mean!));
        Assert.Equal(1, norm.num_batches_tracked!.item<long>());
    });

    [Theory]
    [InlineData(1, 0)]
    [InlineData(0, 0)]
    public void Train_AtMostOneValueOverAllRanks_ThrowsOnEveryRankAndChangesNothing(int first, int second)
    {
        var failures = GroupOfThreads.RunEach("shm", 2, group =>
        {
            using var norm = new SyncBatchNorm(Channels, group);
            var e = Assert.Throws<ArgumentException>(() => norm.call(ones(group.Rank == 0 ? first : second, Channels)));
            Assert.Contains($"Expected more than 1 value per channel when training, but all 2 ranks together have {first + second}", e.Message);
            Assert.Equal(0, norm.num_batches_tracked!.item<long>());
            Assert.True(norm.running_var!.eq(1).all().item<bool>());
            norm.call(rand(2, Channels)); // the group is as good as before
        });
        Assert.All(failures, Assert.Null);
    }

    [Fact]
    public void Train_WrongInput_SaysWhatWasExpected() => Run(2, group =>
    {
        using var norm = new SyncBatchNorm(Channels, group);
        Assert.Contains("at least 2D input, but got 1D", Assert.Throws<ArgumentException>(() => norm.call(ones(3))).Message);
        Assert.Contains("3 channels in dimension 1, but got shape [2, 4]", Assert.Throws<ArgumentException>(() => norm.call(ones(2, 4))).Message);
        var converted = SyncBatchNorm.Convert<nn.Module<Tensor, Tensor>>(nn.BatchNorm1d(Channels), group);
        Assert.Contains("expected 2D or 3D input, but got 4D", Assert.Throws<ArgumentException>(() => converted.call(ones(1, Channels, 1, 1))).Message);
    });

    [Fact]
    public void Train_ManySteps_LeavesNoTensors() => Run(2, group =>
    {
        using var norm = new SyncBatchNorm(Channels, group);
        void Pass()
        {
            using var scope = NewDisposeScope();
            norm.zero_grad();
            norm.call(rand(4, Channels).requires_grad_()).square().sum().backward();
        }

        Pass();
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (var i = 0; i < 50; i++)
            Pass();
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    });

    [Theory]
    [InlineData("ddp_notebook")]
    [InlineData("ddp_notebook_find_unused_parameters_true")]
    public void Fabric_DataParallelTraining_EqualsOneProcessWithTheWholeBatch(string strategy)
    {
        int[] batches = [2, 2, 2]; // equal: the mean of the ranks' mean losses is then the mean over the whole batch
        using var reference = Net();
        var state = reference.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.clone());
        using var fabric = new Fabric("cpu", strategy, batches.Length);
        var trained = fabric.Launch(rank =>
        {
            using var scope = NewDisposeScope();
            var net = Net();
            net.load_state_dict(state);
            net = rank.ConvertSyncBatchNorm(net);
            var (model, optimizer) = rank.Setup(net, optim.SGD(net.parameters(), 0.1, momentum: 0.9));
            for (var step = 0; step < 4; step++)
            {
                optimizer.zero_grad();
                rank.Backward(Loss(model.call(Part(Images(step), batches, rank.GlobalRank))));
                optimizer.step();
            }

            var bits = Checkpoints.Fingerprint(net);
            var all = Enumerable.Range(0, batches.Length).Select(source => rank.Broadcast(bits, source)).ToList();
            Assert.All(all, one => Assert.Equal(bits, one));
            return net.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach().clone().DetachFromDisposeScope());
        });

        using var optimizer = optim.SGD(reference.parameters(), 0.1, momentum: 0.9);
        for (var step = 0; step < 4; step++)
        {
            reference.zero_grad();
            Loss(reference.call(Images(step))).backward();
            optimizer.step();
        }

        Assert.Equal(reference.state_dict().Keys, trained.Keys);
        foreach (var (name, value) in reference.state_dict())
            Close(value, trained[name], 1e-4);
    }

    [Fact]
    public void Fabric_OneRankFailsBeforeItsBackward_TheOthersNameIt()
    {
        var seen = default(Exception);
        Assert.Throws<InvalidDataException>(() =>
        {
            using var fabric = new Fabric("cpu", "ddp_notebook", 2);
            fabric.Launch<int>(rank =>
            {
                var model = rank.Setup(rank.ConvertSyncBatchNorm(Net()));
                var loss = Loss(model.call(rand(2, 2, 4, 4)));
                if (rank.GlobalRank == 1)
                    throw new InvalidDataException("bad sample");
                seen = Record.Exception(() => rank.Backward(loss));
                throw seen!;
            });
        });
        Assert.Equal("InvalidDataException: bad sample", Assert.IsType<PeerFailedException>(seen).Reason);
    }

    private static void Compare(int ranks, string kind, int[] batches, ScalarType type, double? momentum, double tolerance)
    {
        using var scope = NewDisposeScope();
        using var reference = Reference(kind, type);
        reference.momentum = momentum;
        var whole = WholeBatch(batches, kind, type).requires_grad_();
        var wide = type is ScalarType.BFloat16 or ScalarType.Float16;
        Tensor Output(Tensor x) => reference.call(wide ? x.to(ScalarType.Float32) : x);
        Tensor[] expected = [Output(whole), Output(whole)]; // twice: the second update of the running statistics weighs differently
        (Weighted(expected[0], 0) + Weighted(expected[1], 0)).backward();

        var gradients = new (Tensor Weight, Tensor Bias)[ranks];
        Run(ranks, group =>
        {
            using var original = Reference(kind, type);
            original.momentum = momentum;
            var norm = SyncBatchNorm.Convert<nn.Module<Tensor, Tensor>>(original, group);
            var own = Part(whole.detach(), batches, group.Rank).clone().requires_grad_();
            var outputs = new[] { norm.call(own), norm.call(own) };
            var offset = batches.Take(group.Rank).Sum();
            (Weighted(outputs[0], offset) + Weighted(outputs[1], offset)).backward();
            Assert.Equal(type, outputs[0].dtype);
            Close(Part(expected[1], batches, group.Rank), outputs[1], tolerance);
            Close(Part(whole.grad!, batches, group.Rank), own.grad!, tolerance);
            gradients[group.Rank] = (original.weight.grad!.DetachFromDisposeScope(), original.bias!.grad!.DetachFromDisposeScope());
            Close(reference.running_mean!, original.running_mean!, tolerance);
            Close(reference.running_var!, original.running_var!, tolerance);
            Assert.Equal(2, original.num_batches_tracked!.item<long>());
            original.weight.grad = original.bias.grad = null;
        });
        Close(reference.weight.grad!, Sum(gradients.Select(g => g.Weight)), tolerance);
        Close(reference.bias!.grad!, Sum(gradients.Select(g => g.Bias)), tolerance);
    }

    private static Tensor Sum(IEnumerable<Tensor> tensors) => stack(tensors.ToArray()).to(ScalarType.Float64).sum(dim: 0);

    private static BatchNorm Reference(string kind, ScalarType type)
    {
        var parameterType = type == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
        BatchNorm norm = kind switch
        {
            "2d" => nn.BatchNorm2d(Channels),
            "3d" => nn.BatchNorm3d(Channels),
            _ => nn.BatchNorm1d(Channels),
        };
        if (parameterType == ScalarType.Float64)
            norm.to(parameterType);
        norm.num_batches_tracked = tensor(0L);
        using (no_grad())
        {
            norm.weight.copy_(tensor(new[] { 0.5, 1, -2 }));
            norm.bias!.copy_(tensor(new[] { 0.25, -1, 3 }));
        }

        return norm;
    }

    private static Tensor WholeBatch(int[] batches, string kind, ScalarType type)
    {
        long[] shape = kind switch
        {
            "2d" => [batches.Sum(), Channels, 2, 3],
            "3d" => [batches.Sum(), Channels, 2, 1, 2],
            "1d with length" => [batches.Sum(), Channels, 4],
            _ => [batches.Sum(), Channels],
        };
        var numbers = arange(shape.Aggregate(1L, (a, b) => a * b), ScalarType.Float64).reshape(shape);
        return ((numbers * 1.7).sin() + numbers * 0.01).to(type);
    }

    /// <summary>A loss whose gradients differ from sample to sample.</summary>
    private static Tensor Weighted(Tensor output, int offset)
    {
        var x = output.to(ScalarType.Float64);
        var weights = (arange(offset, offset + x.shape[0], ScalarType.Float64) * 0.9).cos();
        return (x.flatten(1).pow(2).sum(1) * weights).sum() + (x.flatten(1).sum(1) * weights).sum();
    }

    private static Tensor Part(Tensor whole, int[] batches, int rank) => whole.narrow(0, batches.Take(rank).Sum(), batches[rank]);

    private static Tensor Images(int step) => ((arange(6 * 2 * 4 * 4, ScalarType.Float32) + step) * 1.3).sin().reshape(6, 2, 4, 4);

    private static Tensor Loss(Tensor output) => (output - 0.3).pow(2).mean();

    private static Sequential Net() => nn.Sequential(
        ("conv", nn.Conv2d(2, 4, 3)), ("norm", nn.BatchNorm2d(4)), ("relu", nn.ReLU()), ("flat", nn.Flatten()), ("head", nn.Linear(16, 2)), ("last", nn.BatchNorm1d(2)));

    private static void Close(Tensor expected, Tensor actual, double tolerance)
    {
        Assert.Equal(expected.shape, actual.shape);
        Assert.True(expected.to(ScalarType.Float64).allclose(actual.to(ScalarType.Float64), tolerance, tolerance), $"expected {expected.str()}, found {actual.str()}");
    }

    private static void Run(int ranks, Action<ProcessGroup> body) => GroupOfThreads.Run("shm", ranks, group =>
    {
        using var scope = NewDisposeScope();
        body(group);
        group.Barrier().Wait();
    });
}
