using System.Text.Json;
using FabricSharp.Precision;
using FabricSharp.Tests.Collectives;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Precision;

public sealed class GradScalerTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Parameter _weight = new(ones(3));
    private readonly optim.Optimizer _optimizer;

    public GradScalerTests() => _optimizer = optim.SGD([_weight], 1.0);

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void State_New_HasPyTorchsDefaults() =>
        Assert.Equal(new GradScalerState(65536, 2, 0.5, 2000, 0), new GradScaler().State);

    [Fact]
    public void Step_FiniteGradients_StepsWithTheTrueOnes()
    {
        var scaler = new GradScaler(initScale: 1024);
        Backward(scaler);
        Assert.Equal([1024f, 1024f, 1024f], _weight.grad!.data<float>().ToArray());
        scaler.Step(_optimizer);
        scaler.Update();
        Assert.Equal([1f, 1f, 1f], _weight.grad!.data<float>().ToArray());
        Assert.Equal([0f, 0f, 0f], _weight.data<float>().ToArray());
        Assert.Equal((1024, 1), (scaler.CurrentScale, scaler.State.GrowthTracker));
    }

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    [InlineData(double.NegativeInfinity)]
    public void Step_OneNonFiniteGradient_SkipsAndHalvesTheScale(double bad)
    {
        var scaler = new GradScaler();
        Backward(scaler);
        scaler.Step(_optimizer);
        scaler.Update();
        _weight.grad = null;
        Backward(scaler, bad);
        Assert.Null(scaler.Step(_optimizer));
        scaler.Update();
        Assert.Equal([0f, 0f, 0f], _weight.data<float>().ToArray());
        Assert.Equal((32768, 0), (scaler.CurrentScale, scaler.State.GrowthTracker));
    }

    [Fact]
    public void Update_GrowthInterval_DoublesOnlyAfterGoodStepsInARow()
    {
        var scaler = new GradScaler(initScale: 8, growthInterval: 3);
        var scales = new List<double>();
        foreach (var factor in new[] { 1, 1, double.NaN, 1, 1, 1, 1 })
        {
            Iterate(scaler, factor);
            scales.Add(scaler.CurrentScale);
        }

        Assert.Equal([8, 8, 4, 4, 4, 8, 8], scales);
        Assert.Equal(1, scaler.State.GrowthTracker);
    }

    [Fact]
    public void Update_GrowthBeyondFloat32_KeepsTheScale()
    {
        var scaler = new GradScaler(initScale: Math.Pow(2, 127), growthInterval: 1);
        Iterate(scaler, 1e-30);
        Assert.Equal(Math.Pow(2, 127), scaler.CurrentScale);
    }

    [Fact]
    public void Unscale_BeforeClipping_HappensExactlyOnce()
    {
        var scaler = new GradScaler(initScale: 256);
        Backward(scaler, 4);
        scaler.Unscale(_optimizer);
        Assert.Equal(4, _weight.grad![0].item<float>());
        var norm = nn.utils.clip_grad_norm_([_weight], 1);
        Assert.Equal(Math.Sqrt(48), norm, 1e-5);
        scaler.Step(_optimizer);
        Assert.Equal(1 - 1 / Math.Sqrt(3), _weight[0].item<float>(), 1e-5);
    }

    [Fact]
    public void Unscale_Twice_IsRefusedWithPyTorchsMessage()
    {
        var scaler = new GradScaler();
        Backward(scaler);
        scaler.Unscale(_optimizer);
        Assert.StartsWith("unscale_() has already been called on this optimizer since the last update().", Assert.Throws<InvalidOperationException>(() => scaler.Unscale(_optimizer)).Message);
        scaler.Step(_optimizer);
        Assert.StartsWith("unscale_() is being called after step().", Assert.Throws<InvalidOperationException>(() => scaler.Unscale(_optimizer)).Message);
        Assert.StartsWith("step() has already been called since the last update().", Assert.Throws<InvalidOperationException>(() => scaler.Step(_optimizer)).Message);
        scaler.Update();
        scaler.Unscale(_optimizer); // a new iteration
    }

    [Fact]
    public void Step_NoGradient_IsRefused()
    {
        var scaler = new GradScaler();
        Assert.StartsWith("No inf checks were recorded for this optimizer", Assert.Throws<InvalidOperationException>(() => scaler.Step(_optimizer)).Message);
        Assert.StartsWith("No inf checks were recorded prior to update.", Assert.Throws<InvalidOperationException>(() => scaler.Update()).Message);
    }

    [Fact]
    public void Unscale_Float16Gradients_IsRefusedAndChangesNothing()
    {
        var narrow = new Parameter(ones(2, dtype: ScalarType.Float16));
        narrow.grad = full_like(narrow, 8);
        _weight.grad = full_like(_weight, 8);
        var e = Assert.Throws<InvalidOperationException>(() => new GradScaler().Unscale(optim.SGD([_weight, narrow], 1.0)));
        Assert.StartsWith("Attempting to unscale FP16 gradients.", e.Message);
        Assert.Equal(8, _weight.grad[0].item<float>());
    }

    [Theory]
    [InlineData(ScalarType.Float64)]
    [InlineData(ScalarType.BFloat16)]
    public void Unscale_SeveralElementTypes_UnscalesAndChecksAll(ScalarType type)
    {
        var other = new Parameter(ones(2, dtype: type));
        var optimizer = optim.SGD([_weight, other], 1.0);
        var scaler = new GradScaler(initScale: 4);
        (_weight.grad, other.grad) = (full_like(_weight, 8), full_like(other, 8));
        scaler.Step(optimizer);
        scaler.Update();
        Assert.Equal((-1, -1), (_weight[0].item<float>(), other[0].to(ScalarType.Float32).item<float>()));
        (_weight.grad, other.grad) = (full_like(_weight, 8), full_like(other, double.NaN));
        Assert.Null(scaler.Step(optimizer));
        Assert.Equal(-1, _weight[0].item<float>());
    }

    [Fact]
    public void Unscale_ViewsOfOneTensor_UnscalesThemOnly()
    {
        var flat = full(8, 16.0);
        var transposed = new Parameter(ones(2, 2));
        transposed.grad = flat[TensorIndex.Slice(3, 7)].view(2, 2).t();
        _weight.grad = flat[TensorIndex.Slice(0, 3)];
        new GradScaler(initScale: 16).Unscale(optim.SGD([_weight, transposed], 1.0));
        Assert.Equal([1, 1, 1, 1, 1, 1, 1, 16], flat.data<float>().ToArray());
    }

    [Theory]
    [InlineData(16.0, 0f)]
    [InlineData(double.NaN, 1f)]
    [InlineData(double.NegativeInfinity, 1f)]
    public void UnscaleManaged_WhereLibtorchHasNoEntry_DoesTheSame(double last, float expected)
    {
        var gradients = new[] { full(2, 16.0), full([2, 2], 16.0).t(), full(1, last) };
        var found = zeros(1);
        GradientScan.UnscaleManaged(gradients, found, full(1, 1.0 / 16));
        Assert.Equal(expected, found.item<float>());
        Assert.True(gradients[0].eq(1).all().item<bool>() && gradients[1].eq(1).all().item<bool>());
        Assert.True(FabricSharp.Interop.LibTorch.GradientUnscaling.IsSupported == FabricSharp.Interop.LibTorch.LibTorchLibrary.IsSupported);
    }

    [Fact]
    public void Step_SparseGradient_IsUnscaledAndChecked()
    {
        var table = nn.Embedding(4, 2, sparse: true);
        nn.init.zeros_(table.weight!); // so that the step below has no rounding
        var optimizer = optim.SGD(table.parameters(), 1.0);
        var scaler = new GradScaler(initScale: 4);
        var before = table.weight!.clone();
        scaler.Scale(table.call(tensor(new[] { 1L })).sum()).backward();
        scaler.Step(optimizer);
        scaler.Update();
        Assert.Equal([0f, 1f, 0f, 0f], (before - table.weight)[TensorIndex.Colon, 0].data<float>().ToArray());
        table.zero_grad();
        scaler.Scale(table.call(tensor(new[] { 1L })).sum() * double.NaN).backward();
        Assert.Null(scaler.Step(optimizer));
    }

    [Fact]
    public void Step_TwoOptimizersAndOneBadGradient_SkipsThatOneOnly()
    {
        var other = new Parameter(ones(1));
        var second = optim.SGD([other], 1.0);
        var scaler = new GradScaler(initScale: 2);
        Backward(scaler, double.NaN);
        other.grad = full_like(other, 2);
        scaler.Step(_optimizer);
        scaler.Step(second);
        scaler.Update();
        Assert.Equal((1, 0, 1), (_weight[0].item<float>(), other[0].item<float>(), scaler.CurrentScale));
    }

    [Fact]
    public void Step_ScaleWasUpdatedForAnotherOptimizer_UnscalesWithTheScaleOfTheBackwardPass()
    {
        var other = new Parameter(ones(1));
        var second = optim.SGD([other], 1.0);
        var scaler = new GradScaler(initScale: 8, growthInterval: 1);
        scaler.Scale((_weight.sum() + other.sum()) / 2).backward();
        scaler.Step(_optimizer);
        scaler.Update();
        Assert.Equal(16, scaler.CurrentScale);
        scaler.Step(second);
        Assert.Equal((0.5f, 0.5f), (_weight[0].item<float>(), other[0].item<float>()));
    }

    [Fact]
    public void Disabled_Always_LeavesEverythingAlone()
    {
        var scaler = new GradScaler(enabled: false);
        var loss = _weight.sum();
        Assert.Same(loss, scaler.Scale(loss));
        loss.backward();
        scaler.Unscale(_optimizer);
        scaler.Step(_optimizer);
        scaler.Update();
        Assert.Equal((0, 1), (_weight[0].item<float>(), scaler.CurrentScale));
    }

    [Fact]
    public void Scale_Float16Scalar_DoesNotOverflow()
    {
        var scaled = new GradScaler().Scale(tensor(8, ScalarType.Float16));
        Assert.Equal((ScalarType.Float32, 8 * 65536), (scaled.dtype, scaled.item<float>()));
    }

    [Fact]
    public void State_ThroughJson_GoesOnWhereItWas()
    {
        var scaler = new GradScaler(initScale: 8, growthInterval: 2);
        Iterate(scaler);
        var restored = new GradScaler();
        restored.LoadState(JsonSerializer.Deserialize<GradScalerState>(JsonSerializer.Serialize(scaler.State))!);
        Assert.Equal(scaler.State, restored.State);
        Iterate(restored);
        Assert.Equal(16, restored.CurrentScale);
    }

    [Fact]
    public void Update_NewScale_ReplacesIt()
    {
        var scaler = new GradScaler();
        scaler.Update(512);
        Assert.Equal(512, scaler.CurrentScale);
        Assert.Throws<ArgumentException>(() => scaler.Update(0));
    }

    [Fact]
    public void Constructor_NumbersOutOfRange_AreRefused()
    {
        Assert.Contains("> 1.0", Assert.Throws<ArgumentException>(() => new GradScaler(growthFactor: 1)).Message);
        Assert.Contains("< 1.0", Assert.Throws<ArgumentException>(() => new GradScaler(backoffFactor: 1)).Message);
        Assert.Throws<ArgumentException>(() => new GradScaler(initScale: double.NaN));
        Assert.Throws<ArgumentException>(() => new GradScaler(initScale: 1e300));
        Assert.Throws<ArgumentException>(() => new GradScaler(growthInterval: 0));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Step_NonFiniteGradientOnOneRank_SkipsOnAllRanks(int badRank) => GroupOfThreads.Run("shm", 2, group =>
    {
        var weight = new Parameter(ones(2));
        var optimizer = optim.SGD([weight], 1.0);
        var scaler = new GradScaler(initScale: 4) { Group = group };
        weight.grad = full_like(weight, group.Rank == badRank ? double.NaN : 4);
        Assert.Null(scaler.Step(optimizer));
        scaler.Update();
        Assert.Equal((1, 2), (weight[0].item<float>(), scaler.CurrentScale));
    });

    [Fact]
    public void Step_RankWithoutGradients_TakesPart() => GroupOfThreads.Run("shm", 2, group =>
    {
        var weight = new Parameter(ones(2));
        var scaler = new GradScaler(initScale: 4, growthInterval: 1) { Group = group };
        if (group.Rank == 0)
            weight.grad = full_like(weight, 4);
        scaler.Step(optim.SGD([weight], 1.0));
        scaler.Update();
        Assert.Equal((group.Rank == 0 ? 0 : 1, 8), (weight[0].item<float>(), scaler.CurrentScale));
    });

    [Fact]
    public void Iterate_ManyTimes_KeepsNoTensor()
    {
        var scaler = new GradScaler();
        Iterate(scaler);
        var before = LiveTensors.Settled();
        for (var i = 0; i < 20; i++)
            using (NewDisposeScope())
                Iterate(scaler);
        Assert.Equal(before, Tensor.TotalCount);
    }

    private void Iterate(GradScaler scaler, double factor = 1)
    {
        _weight.grad = null;
        Backward(scaler, factor);
        scaler.Step(_optimizer);
        scaler.Update();
    }

    /// <summary>Makes each true gradient <paramref name="factor"/>; a non-finite one touches the last element only.</summary>
    private void Backward(GradScaler scaler, double factor = 1)
    {
        var factors = double.IsFinite(factor) ? full(3, factor) : tensor(new[] { 1f, 1f, (float)factor });
        using var loss = (_weight * factors).sum();
        using var scaled = scaler.Scale(loss);
        scaled.backward();
    }
}
