using System.Runtime.InteropServices;
using TorchSharp;

namespace FabricSharp.Interop.LibTorch;

/// <summary>
/// Multiplies many gradients with a factor and looks for infinities and NaNs on the way, in one pass over the memory and without a managed
/// object for each: libtorch's <c>_amp_foreach_non_finite_check_and_unscale_</c>, which has no stable C function.
/// </summary>
internal static unsafe class GradientUnscaling
{
    private const string Symbol = "_ZN2at4_ops42_amp_foreach_non_finite_check_and_unscale_4callEN3c108ArrayRefINS_6TensorEEERS4_RKS4_";

    private static readonly Lazy<IntPtr> Entry = new(Load);

    public static bool IsSupported => Entry.Value != IntPtr.Zero;

    /// <param name="gradients">TensorImpl pointers of dense tensors, all of one floating-point type and on one device.</param>
    /// <param name="found">One float32 element on that device: becomes 1 where a gradient is not finite, else stays.</param>
    /// <param name="factor">One float32 element on that device.</param>
    public static void Unscale(ReadOnlySpan<IntPtr> gradients, torch.Tensor found, torch.Tensor factor)
    {
        using (torch.no_grad())
            Call(Entry.Value, gradients, found, factor);
    }

    private static void Call(IntPtr entry, ReadOnlySpan<IntPtr> gradients, torch.Tensor found, torch.Tensor factor)
    {
        // at::Tensor is a pointer to a TensorImpl and nothing else; at::TensorList is a pointer and a length, passed in two registers.
        fixed (IntPtr* first = gradients)
            ((delegate* unmanaged<IntPtr*, nint, IntPtr, IntPtr, void>)entry)(first, gradients.Length, found.Handle, factor.Handle);
        GC.KeepAlive(found);
        GC.KeepAlive(factor);
    }

    private static IntPtr Load()
    {
        if (!LibTorchLibrary.IsSupported || !NativeLibrary.TryGetExport(NativeLibrary.Load(LibTorchLibrary.PathOf("libtorch_cpu")), Symbol, out var entry))
            return IntPtr.Zero;
        return SelfTest(entry) ? entry : IntPtr.Zero;
    }

    private static bool SelfTest(IntPtr entry)
    {
        using var scope = torch.NewDisposeScope();
        using var gradientsOff = torch.no_grad();
        using var first = torch.full(3, 4, torch.ScalarType.Float32, torch.CPU);
        using var second = torch.full(2, double.PositiveInfinity, torch.ScalarType.Float32, torch.CPU);
        using var found = torch.zeros(1, torch.ScalarType.Float32, torch.CPU);
        using var factor = torch.full(1, 0.5, torch.ScalarType.Float32, torch.CPU);
        Call(entry, [*(IntPtr*)first.Handle], found, factor);
        var finite = found.item<float>() == 0 && first.data<float>().ToArray() is [2, 2, 2];
        Call(entry, [*(IntPtr*)first.Handle, *(IntPtr*)second.Handle], found, factor);
        return finite && found.item<float>() == 1;
    }
}
