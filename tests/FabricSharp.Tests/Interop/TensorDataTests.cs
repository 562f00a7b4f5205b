using FabricSharp.Interop.LibTorch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Interop;

public sealed class TensorDataTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();

    public TensorDataTests() => Assert.SkipUnless(TensorData.IsSupported, LibTorchLibrary.NotSupportedReason ?? "");

    public void Dispose() => _scope.Dispose();

    [Fact]
    public void Set_OtherTypeAndShape_KeepsTheIdentity()
    {
        var p = new Parameter(ones(2, 3), requires_grad: true);
        var handle = p.Handle;
        TensorData.Set(p, full(4, 2.5, ScalarType.Float64));
        Assert.Equal(handle, p.Handle);
        Assert.Equal(ScalarType.Float64, p.dtype);
        Assert.Equal([4], p.shape);
        Assert.True(p.requires_grad && p.is_leaf);
        Assert.Equal(10, p.sum().item<double>());
    }

    [Fact]
    public void Set_AfterABackward_LetsTheNextOneGiveTheNewType()
    {
        var p = new Parameter(ones(3), requires_grad: true);
        p.sum().backward();
        p.grad = null;
        TensorData.Set(p, p.detach().to(ScalarType.Float64));
        (p * 2).sum().backward();
        Assert.Equal(ScalarType.Float64, p.grad!.dtype);
        Assert.Equal(6, p.grad!.sum().item<double>());
    }

    [Fact]
    public void Set_Aliases_SeeNothing()
    {
        var original = ones(3);
        var view = original.slice(0, 0, 2, 1);
        TensorData.Set(original, zeros(3));
        Assert.Equal((0.0, 2.0), (original.sum().ToDouble(), view.sum().ToDouble()));
    }

    [Fact]
    public void Set_ManyTimes_LeaksNoMemory()
    {
        using var p = new Parameter(zeros(1 << 20), requires_grad: true);
        long Resident() => Environment.WorkingSet;
        long before = 0;
        for (var i = 0; i < 100; i++)
        {
            using var scope = NewDisposeScope();
            TensorData.Set(p, ones(1 << 20));
            if (i == 20)
                before = Resident();
        }

        Assert.InRange(Resident() - before, long.MinValue, 100L << 20); // 320 MB if each were kept
    }
}
