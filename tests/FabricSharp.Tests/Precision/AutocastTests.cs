using FabricSharp.Precision;
using FabricSharp.Tests.Collectives;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Precision;

public sealed class AutocastTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public AutocastTests() => Assert.SkipUnless(Autocast.IsSupported, Autocast.NotSupportedReason ?? "");

    public void Dispose() => _scope.Dispose();

    [Theory]
    [InlineData(ScalarType.BFloat16)]
    [InlineData(ScalarType.Float16)]
    public void Scope_LinearOnFloat32_ComputesInTheNarrowTypeAndKeepsTheWeights(ScalarType type)
    {
        var linear = nn.Linear(3, 2);
        using (new Autocast(dtype: type))
            Assert.Equal(type, linear.call(ones(1, 3)).dtype);
        Assert.Equal(ScalarType.Float32, linear.call(ones(1, 3)).dtype);
        Assert.Equal(ScalarType.Float32, linear.weight.dtype);
    }

    [Fact]
    public void Scope_Backward_GivesFloat32Gradients()
    {
        var linear = nn.Linear(3, 2);
        Tensor loss;
        using (new Autocast())
            loss = linear.call(ones(1, 3)).sum();
        loss.backward();
        Assert.Equal(ScalarType.Float32, linear.weight.grad!.dtype);
        Assert.True(linear.weight.grad.eq(1).all().item<bool>());
    }

    [Fact]
    public void Scope_LossOfNarrowTensors_ComputesInFloat32()
    {
        using (new Autocast())
            Assert.Equal(ScalarType.Float32, nn.functional.mse_loss(ones(2, dtype: bfloat16), zeros(2, dtype: bfloat16)).dtype);
    }

    [Fact]
    public void Scope_Nested_BringsBackTheStateBefore()
    {
        using (new Autocast(dtype: ScalarType.BFloat16))
        {
            using (new Autocast(dtype: ScalarType.Float16))
            {
                Assert.Equal(ScalarType.Float16, Product());
                using (new Autocast(enabled: false))
                    Assert.Equal((false, ScalarType.Float32), (Autocast.IsEnabled(), Product()));
                Assert.Equal((true, ScalarType.Float16), (Autocast.IsEnabled(), Autocast.ElementType()));
            }

            Assert.Equal(ScalarType.BFloat16, Product());
        }

        Assert.Equal((false, ScalarType.Float32), (Autocast.IsEnabled(), Product()));
    }

    [Fact]
    public void Scope_Exception_BringsBackTheStateBefore()
    {
        var before = Autocast.ElementType();
        Assert.Throws<InvalidOperationException>(ThrowInside);
        Assert.Equal((false, before), (Autocast.IsEnabled(), Autocast.ElementType()));
    }

    /// <summary>The cache holds the converted weight; what was written to the weight meanwhile shows only in a new outermost scope.</summary>
    [Theory]
    [InlineData(true, 3f)]
    [InlineData(false, 6f)]
    public void Scope_WeightChangesInside_ShowsWhetherTheCacheLivesToTheOutermostEnd(bool cache, float second)
    {
        var weight = new Parameter(ones(3, 1));
        float Output() => mm(ones(1, 3), weight).to(ScalarType.Float32).item<float>();
        using (new Autocast(cacheEnabled: cache))
        {
            using (new Autocast(cacheEnabled: cache))
                Assert.Equal(3, Output());
            using (no_grad())
                weight.fill_(2);
            Assert.Equal(second, Output());
        }

        using (new Autocast(cacheEnabled: cache))
            Assert.Equal(6, Output());
    }

    [Fact]
    public void Scope_OtherThread_DoesNotSeeIt()
    {
        using (new Autocast())
        {
            RankThreads.Run(2, rank =>
            {
                Assert.False(Autocast.IsEnabled());
                Assert.Equal(ScalarType.Float32, Product());
                using (new Autocast(dtype: ScalarType.Float16, enabled: rank == 0))
                    Assert.Equal(rank == 0 ? ScalarType.Float16 : ScalarType.Float32, Product());
            });
            Assert.Equal(ScalarType.BFloat16, Product());
        }
    }

    [Fact]
    public void Dispose_OnAnotherThread_IsRefusedAndHasNoEffect()
    {
        var scope = new Autocast();
        RankThreads.Run(1, _ => Assert.Contains("on the thread that began it", Assert.Throws<InvalidOperationException>(scope.Dispose).Message));
        Assert.True(Autocast.IsEnabled());
        scope.Dispose();
        Assert.False(Autocast.IsEnabled());
    }

    [Fact]
    public void Dispose_Twice_DoesNothingMore()
    {
        using (new Autocast())
        {
            var inner = new Autocast(enabled: false);
            inner.Dispose();
            inner.Dispose();
            Assert.True(Autocast.IsEnabled());
        }

        Assert.False(Autocast.IsEnabled());
    }

    [Fact]
    public void Scope_UnsupportedType_IsOff()
    {
        using var scope = new Autocast(dtype: ScalarType.Float64);
        Assert.False(scope.Enabled);
        Assert.Equal(ScalarType.Float32, Product());
    }

    [Fact]
    public void Scope_OtherDevice_DoesNotAffectTheCpu()
    {
        using (new Autocast(DeviceType.MPS, ScalarType.Float16))
            Assert.Equal((false, true, ScalarType.Float32), (Autocast.IsEnabled(), Autocast.IsEnabled(DeviceType.MPS), Product()));
        Assert.False(Autocast.IsEnabled(DeviceType.MPS));
        Assert.Equal("device", Assert.Throws<ArgumentException>(() => new Autocast(DeviceType.META)).ParamName);
    }

    private static void ThrowInside()
    {
        using (new Autocast(dtype: ScalarType.Float16))
            throw new InvalidOperationException($"thrown with autocast {Autocast.IsEnabled()}");
    }

    private static ScalarType Product() => mm(ones(2, 2), ones(2, 2)).dtype;
}
