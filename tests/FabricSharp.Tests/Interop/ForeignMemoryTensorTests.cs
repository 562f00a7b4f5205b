using System.Runtime.InteropServices;
using FabricSharp.Interop.LibTorch;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Interop;

public sealed unsafe class ForeignMemoryTensorTests : IDisposable
{
    private readonly float* _memory = (float*)NativeMemory.AlignedAlloc(64 * sizeof(float), 64);
    private int _released;

    public ForeignMemoryTensorTests()
    {
        Assert.SkipUnless(LibTorchLibrary.IsSupported, LibTorchLibrary.NotSupportedReason ?? "");
        new Span<float>(_memory, 64).Clear();
    }

    public void Dispose() => NativeMemory.AlignedFree(_memory);

    [Fact]
    public void Create_Always_SharesTheMemory()
    {
        using var flat = Create();
        flat[3] = 5f;
        Assert.Equal(5, _memory[3]);
        _memory[4] = 6;
        Assert.Equal(11, flat.sum().item<float>());
        Assert.Equal((IntPtr)_memory, TensorMemory.PointerOf(flat));
        Assert.Equal([64], flat.shape);
        Assert.Equal(ScalarType.Float32, flat.dtype);
    }

    [Fact]
    public void Release_LastTensorGone_RunsOnce()
    {
        var flat = Create();
        var view = flat.slice(0, 10, 20, 1);
        var another = view.reshape(2, 5);
        flat.Dispose();
        view.Dispose();
        Assert.Equal(0, _released);
        another.fill_(1);
        Assert.Equal(1, _memory[10]);
        another.Dispose();
        Assert.Equal(1, _released);
    }

    [Fact]
    public void Release_GradientThatOutlivesTheTensor_WaitsForIt()
    {
        using var p = new Parameter(ones(8), requires_grad: true);
        using (var flat = Create())
        using (var view = flat.slice(0, 0, 8, 1))
            p.grad = view;
        Assert.Equal(0, _released);
        p.grad = null;
        Assert.Equal(1, _released);
    }

    [Fact]
    public void Backward_WithAViewAsGradient_AddsInPlace()
    {
        using var scope = NewDisposeScope();
        var flat = Create();
        var p = new Parameter(ones(2, 3), requires_grad: true);
        using (no_grad())
            p.grad = flat.as_strided([2, 3], [3, 1], 16);
        _memory[16] = 100;
        (p * 2).sum().backward();
        (p * 3).sum().backward();
        Assert.Equal([105f, 5, 5, 5, 5, 5], new Span<float>(_memory + 16, 6).ToArray());
        Assert.Equal((IntPtr)(_memory + 16), TensorMemory.PointerOf(p.grad!));
        Assert.Equal([0f, 0f], new[] { _memory[15], _memory[22] });
    }

    [Fact]
    public void Create_OverMemoryInUse_IsRefused()
    {
        using (Create())
            Assert.Contains("backs a tensor already", Assert.Throws<InvalidOperationException>(() => Create()).Message);
        Assert.Equal(1, _released);
        Create().Dispose();
        Assert.Equal(2, _released);
    }

    [Fact]
    public void Release_TensorForgotten_RunsByTheFinaliser()
    {
        Forget();
        Assert.True(SpinWait.SpinUntil(
            () =>
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
                return Volatile.Read(ref _released) == 1;
            },
            TimeSpan.FromSeconds(20)));

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        void Forget() => Create().DetachFromDisposeScope();
    }

    private Tensor Create() => ForeignMemoryTensor.Create((IntPtr)_memory, 64, ScalarType.Float32, () => Interlocked.Increment(ref _released));
}
