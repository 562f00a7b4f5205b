using FabricSharp.Precision;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Clipping;

public sealed class ClipGradientsTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Fabric _fabric = new("cpu", devices: 1);

    public void Dispose()
    {
        _fabric.Dispose();
        _scope.Dispose();
    }

    [Theory]
    [InlineData(1, 21)]
    [InlineData(2, 9.539392014)]
    [InlineData(3, 7.611662611)]
    [InlineData(double.PositiveInfinity, 6)]
    public void ClipGradients_Norm_ReturnsTheNormBeforeAndScalesToTheLimit(double normType, double expected)
    {
        var (net, model, optimizer) = SetUp();
        SetGradients(net, [1, -2, 3, -4], [5, -6]);
        var norm = _fabric.ClipGradients(model, optimizer, maxNorm: 2.0, normType: normType);
        Assert.Equal(expected, norm.item<float>(), 5);
        Assert.Empty(norm.shape);
        var factor = 2.0 / (expected + 1e-6);
        Assert.Equal(new[] { 1, -2, 3, -4, 5, -6 }.Select(value => value * factor), Gradients(net), (a, b) => Math.Abs(a - b) < 1e-5);
    }

    [Fact]
    public void ClipGradients_NormBelowTheLimit_ChangesNothing()
    {
        var (net, model, optimizer) = SetUp();
        SetGradients(net, [1, -2, 3, -4], [5, -6]);
        _fabric.ClipGradients(model, optimizer, maxNorm: 100.0);
        Assert.Equal([1, -2, 3, -4, 5, -6], Gradients(net));
    }

    [Fact]
    public void ClipGradients_Value_ClampsEachElement()
    {
        var (net, model, optimizer) = SetUp();
        SetGradients(net, [1, -2, 3, -4], [5, -6]);
        _fabric.ClipGradients(model, optimizer, clipVal: 2.5);
        Assert.Equal([1, -2, 2.5, -2.5, 2.5, -2.5], Gradients(net));
    }

    [Fact]
    public void ClipGradients_Norm_EqualsTorchSharps()
    {
        var (net, model, optimizer) = SetUp();
        var copy = nn.Linear(2, 2);
        foreach (var (ours, theirs) in net.parameters().Zip(copy.parameters()))
        {
            ours.grad = randn_like(ours);
            theirs.grad = ours.grad.clone();
        }

        var norm = _fabric.ClipGradients(model, optimizer, maxNorm: 0.5);
        Assert.Equal(nn.utils.clip_grad_norm_(copy.parameters(), 0.5), norm.item<float>(), 5);
        Assert.Equal(Gradients(copy), Gradients(net), (a, b) => Math.Abs(a - b) < 1e-6);
    }

    [Fact]
    public void ClipGradients_SomeParametersWithoutGradient_LeavesThemOut()
    {
        var (net, model, optimizer) = SetUp();
        net.bias!.grad = tensor(new float[] { 3, 4 });
        Assert.Equal(5, _fabric.ClipGradients(model, optimizer, maxNorm: 1.0).item<float>());
        Assert.Null(net.weight!.grad);
    }

    [Fact]
    public void ClipGradients_NoGradients_IsZero()
    {
        var (_, model, optimizer) = SetUp();
        Assert.Equal(0, _fabric.ClipGradients(model, optimizer, maxNorm: 1.0).item<float>());
        _fabric.ClipGradients(model, optimizer, clipVal: 1.0);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void ClipGradients_NormNotFinite_IsAnErrorUnlessAllowed(float value)
    {
        var (net, model, optimizer) = SetUp();
        SetGradients(net, [1, 1, 1, 1], [value, 1]);
        var e = Assert.Throws<InvalidOperationException>(() => _fabric.ClipGradients(model, optimizer, maxNorm: 1.0));
        Assert.Contains("The total norm of order 2 for gradients from `parameters` is non-finite", e.Message, StringComparison.Ordinal);
        Assert.Contains("errorIfNonfinite: false", e.Message, StringComparison.Ordinal);
        Assert.Equal(1, Gradients(net)[0]);
        Assert.False(float.IsFinite(_fabric.ClipGradients(model, optimizer, maxNorm: 1.0, errorIfNonfinite: false).item<float>()));
    }

    [Fact]
    public void ClipGradients_BadNumbers_AreRefusedByName()
    {
        var (_, model, optimizer) = SetUp();
        Assert.Equal("maxNorm", Assert.Throws<ArgumentOutOfRangeException>(() => _fabric.ClipGradients(model, optimizer, maxNorm: -1.0)).ParamName);
        Assert.Equal("normType", Assert.Throws<ArgumentOutOfRangeException>(() => _fabric.ClipGradients(model, optimizer, maxNorm: 1.0, normType: 0)).ParamName);
        Assert.Equal("clipVal", Assert.Throws<ArgumentOutOfRangeException>(() => _fabric.ClipGradients(model, optimizer, clipVal: double.NaN)).ParamName);
    }

    [Fact]
    public void ClipGradients_OptimizerNotSetUp_SaysWhatToWrite()
    {
        var (net, model, _) = SetUp();
        var e = Assert.Throws<ArgumentException>(() => _fabric.ClipGradients(model, optim.SGD(net.parameters(), 0.1), clipVal: 1.0));
        Assert.Contains("fabric.Setup(module, optimizer)", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ClipGradients_ScaledLoss_SeesUnscaledGradientsOnce()
    {
        using var fabric = new Fabric("cpu", devices: 1, precision: new MixedPrecision("16-mixed", DeviceType.CPU, new GradScaler(initScale: 1024)));
        var net = nn.Linear(2, 1, hasBias: false);
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 1.0));
        fabric.Backward(model.call(tensor(new float[,] { { 3, 4 } })).sum());
        Assert.Equal([3072, 4096], net.weight!.grad!.data<float>().ToArray());
        Assert.Equal(5, fabric.ClipGradients(model, optimizer, maxNorm: 1.0).item<float>(), 4);
        Assert.Equal([0.6f, 0.8f], net.weight.grad!.data<float>().ToArray(), (a, b) => Math.Abs(a - b) < 1e-5);
        var before = net.weight.detach().clone();
        optimizer.step();
        Assert.Equal([0.6f, 0.8f], (before - net.weight.detach()).data<float>().ToArray(), (a, b) => Math.Abs(a - b) < 1e-5);
    }

    [Fact]
    public void ClipGradients_ScaledLossAndLbfgs_IsNotSupported()
    {
        using var fabric = new Fabric("cpu", devices: 1, precision: new MixedPrecision("16-mixed", DeviceType.CPU));
        var net = nn.Linear(2, 1);
        var (model, optimizer) = fabric.Setup(net, optim.LBFGS(net.parameters()));
        fabric.Backward(model.call(ones(1, 2)).sum());
        Assert.Contains("Gradient clipping is not implemented for optimizers handling the unscaling", Assert.Throws<NotSupportedException>(() => fabric.ClipGradients(model, optimizer, clipVal: 1.0)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ClipGradients_TwoRanks_ClipTheAverage()
    {
        var norms = Ranks.Run(2, fabric =>
        {
            var net = nn.Linear(2, 1, hasBias: false);
            var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 1.0));
            fabric.Backward(model.call(tensor(new float[,] { { 2 + 2 * fabric.GlobalRank, 4 } })).sum()); // 2 and 4: the average is 3
            var norm = fabric.ClipGradients(model, optimizer, maxNorm: 1.0).item<float>();
            Assert.Equal([0.6f, 0.8f], net.weight!.grad!.data<float>().ToArray(), (a, b) => Math.Abs(a - b) < 1e-5);
            return norm;
        });
        Assert.All(norms, norm => Assert.Equal(5, norm));
    }

    [Fact]
    public void ClipGradients_OneRankTookNoPart_WaitsForItsZeros()
    {
        var norms = Ranks.Run(2, fabric =>
        {
            var net = nn.Linear(2, 1, hasBias: false);
            var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 1.0));
            var loss = model.call(tensor(new float[,] { { 6, 8 } })).sum();
            if (fabric.GlobalRank == 0)
                fabric.Backward(loss);
            return fabric.ClipGradients(model, optimizer, maxNorm: 1.0).item<float>();
        });
        Assert.Equal([5, 5], norms);
    }

    private (Linear Net, nn.Module Model, FabricOptimizer Optimizer) SetUp()
    {
        var net = nn.Linear(2, 2);
        var (model, optimizer) = _fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
        return (net, model, optimizer);
    }

    private static void SetGradients(Linear net, float[] weight, float[] bias)
    {
        net.weight!.grad = tensor(weight).reshape(2, 2);
        net.bias!.grad = tensor(bias);
    }

    private static double[] Gradients(nn.Module net) => [.. net.parameters().SelectMany(parameter => parameter.grad!.to(ScalarType.Float64).data<double>().ToArray())];
}
