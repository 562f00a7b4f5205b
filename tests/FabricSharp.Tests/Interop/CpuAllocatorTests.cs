using System.Runtime.InteropServices;
using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Interop;

public sealed class CpuAllocatorTests : IDisposable
{
    private const int Elements = 54321;

    private readonly OneBlock _memory = new(Elements * sizeof(float));

    public CpuAllocatorTests()
    {
        Assert.SkipUnless(CpuAllocator.IsSupported, CpuAllocator.NotSupportedReason ?? "");
        CpuAllocator.Register(_memory);
    }

    public void Dispose()
    {
        CpuAllocator.Unregister(_memory);
        _memory.Dispose();
    }

    [Fact]
    public void Serve_AllocationOfTheSize_LiesInTheMemoryAndIsReleasedOnce()
    {
        using (CpuAllocator.Serve([_memory]))
        using (var tensor = zeros(Elements))
        {
            Assert.Equal(_memory.Range.Begin, TensorMemory.PointerOf(tensor));
            Assert.Equal(TorchSharp.DeviceType.CPU, tensor.device.type);
            Assert.Equal(0, tensor.sum().item<float>());
            Assert.Equal(0, _memory.Released);
        }

        Assert.Equal(1, _memory.Released);
    }

    [Fact]
    public void Serve_OtherSizesOtherThreadsAndAfterwards_AreLibtorchsOwn()
    {
        using (CpuAllocator.Serve([_memory]))
        {
            using var other = zeros(Elements + 1);
            Assert.NotEqual(_memory.Range.Begin, TensorMemory.PointerOf(other));
            var thread = new Thread(() =>
            {
                using var elsewhere = zeros(Elements);
                Assert.NotEqual(_memory.Range.Begin, TensorMemory.PointerOf(elsewhere));
            });
            thread.Start();
            Assert.True(thread.Join(TimeSpan.FromSeconds(20)));
        }

        using var afterwards = zeros(Elements);
        Assert.NotEqual(_memory.Range.Begin, TensorMemory.PointerOf(afterwards));
        Assert.Equal(0, _memory.Given);
    }

    [Fact]
    public void Serve_GradientOfABackwardPass_IsBornInTheMemory()
    {
        using var scope = NewDisposeScope();
        using var parameter = new TorchSharp.Modules.Parameter(randn(Elements));
        var loss = (parameter * randn(Elements)).sum();
        using (CpuAllocator.Serve([_memory]))
            loss.backward();
        Assert.Equal(_memory.Range.Begin, TensorMemory.PointerOf(parameter.grad!));
        parameter.grad = null;
    }

    private sealed unsafe class OneBlock(int bytes) : ITensorMemory, IDisposable
    {
        private readonly IntPtr _data = (IntPtr)NativeMemory.AlignedAlloc((nuint)bytes, 64);

        public (IntPtr Begin, IntPtr End) Range => (_data, _data + bytes);

        public int Given { get; private set; }

        public int Released { get; private set; }

        public IntPtr TryAllocate(nuint wanted)
        {
            if (wanted != (nuint)bytes || Given > 0)
                return IntPtr.Zero;
            Given++;
            return _data;
        }

        public void Release(IntPtr data) => Released++;

        public void Dispose() => NativeMemory.AlignedFree((void*)_data);
    }
}
