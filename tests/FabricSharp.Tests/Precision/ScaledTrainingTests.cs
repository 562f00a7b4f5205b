using FabricSharp.Precision;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Precision;

/// <summary>16-mixed, whose scaler does not care that these run on the CPU.</summary>
public sealed class ScaledTrainingTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly GradScaler _scaler = new(initScale: 1024, growthInterval: 3);
    private readonly Linear _net = nn.Linear(3, 2);
    private readonly Fabric _fabric;
    private readonly FabricModule<Tensor, Tensor> _model;
    private readonly FabricOptimizer _optimizer;

    public ScaledTrainingTests()
    {
        _fabric = new Fabric("cpu", "auto", 1, 1, new MixedPrecision("16-mixed", DeviceType.CPU, _scaler));
        (_model, _optimizer) = _fabric.Setup(_net, optim.SGD(_net.parameters(), 0.5));
    }

    public void Dispose()
    {
        _fabric.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void BackwardAndStep_FiniteGradients_ScaleUnscaleAndUpdate()
    {
        var before = _net.weight.clone();
        _fabric.Backward(_model.call(ones(1, 3)).sum());
        Assert.True(_net.weight.grad!.eq(1024).all().item<bool>());
        _optimizer.step();
        Assert.True((before - 0.5).Equals(_net.weight));
        Assert.Equal(1, _scaler.State.GrowthTracker);
    }

    [Fact]
    public void Step_NonFiniteGradient_IsSkippedAndTheScaleHalved()
    {
        var before = _net.weight.clone();
        _fabric.Backward(_model.call(ones(1, 3)).sum() * double.PositiveInfinity);
        _optimizer.step();
        Assert.True(before.Equals(_net.weight));
        Assert.Equal(512, _scaler.CurrentScale);
    }

    [Fact]
    public void Step_GrowthInterval_DoublesTheScale()
    {
        for (var step = 0; step < 3; step++)
        {
            _optimizer.zero_grad();
            _fabric.Backward(_model.call(ones(1, 3)).sum());
            _optimizer.step();
        }

        Assert.Equal(2048, _scaler.CurrentScale);
    }

    [Fact]
    public void UnscaleGradients_BeforeTheStep_HappensOnce()
    {
        var before = _net.weight.clone();
        _fabric.Backward(_model.call(ones(1, 3)).sum());
        _fabric.Precision.UnscaleGradients(_optimizer);
        Assert.True(_net.weight.grad!.eq(1).all().item<bool>());
        Assert.Contains("unscale_() has already been called", Assert.Throws<InvalidOperationException>(() => _fabric.Precision.UnscaleGradients(_optimizer)).Message);
        _optimizer.step();
        Assert.True((before - 0.5).Equals(_net.weight));
    }

    [Fact]
    public void Step_LossBackwardWithoutFabric_IsRefused()
    {
        _model.call(ones(1, 3)).sum().backward();
        Assert.Contains("requires you to call `fabric.Backward(loss)` instead of `loss.backward()`", Assert.Throws<InvalidOperationException>(() => _optimizer.step()).Message);
        _optimizer.zero_grad();
        _fabric.Backward(_model.call(ones(1, 3)).sum());
        _optimizer.step();
        _model.call(ones(1, 3)).sum().backward();
        Assert.Throws<InvalidOperationException>(() => _optimizer.step());
    }

    [Fact]
    public void Step_ClosureOrLBFGS_IsRefused()
    {
        Assert.Contains("Closure use is not currently supported if GradScaler is enabled", Assert.Throws<NotSupportedException>(() => _optimizer.step(() => zeros(1))).Message);
        var second = nn.Linear(3, 2);
        var (model, optimizer) = _fabric.Setup(second, optim.LBFGS(second.parameters()));
        _fabric.Backward(model.call(ones(1, 3)).sum());
        Assert.Contains("AMP and the LBFGS optimizer are not compatible", Assert.Throws<NotSupportedException>(() => optimizer.step()).Message);
    }

    [Fact]
    public void Step_TwoOptimizersOfOneBackwardPass_BothGetTheTrueGradients()
    {
        var second = nn.Linear(2, 1);
        var (head, headOptimizer) = _fabric.Setup(second, optim.SGD(second.parameters(), 0.5));
        for (var step = 0; step < 3; step++) // the scale grows between the last two steps
        {
            _optimizer.zero_grad();
            headOptimizer.zero_grad();
            _fabric.Backward(head.call(_model.call(ones(1, 3))).sum());
            _optimizer.step();
            headOptimizer.step();
            Assert.Equal(1, second.bias!.grad!.item<float>());
        }
    }

    [Fact]
    public void Backward_DisabledScaler_ScalesNothing()
    {
        using var fabric = new Fabric("cpu", "auto", 1, 1, new MixedPrecision("16-mixed", DeviceType.CPU, new GradScaler(enabled: false)));
        var net = nn.Linear(3, 2);
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.5));
        fabric.Backward(model.call(ones(1, 3)).sum());
        Assert.True(net.weight.grad!.eq(1).all().item<bool>());
        optimizer.step();
    }
}
