using System.Runtime.InteropServices;
using TorchSharp;

namespace FabricSharp.Interop.LibTorch;

/// <summary>The address of a tensor's first element, on any platform.</summary>
internal static unsafe class TensorMemory
{
    public static IntPtr PointerOf(torch.Tensor tensor)
    {
        if (LibTorchLibrary.IsSupported)
            return GradientAccess.DataPointer(tensor.Handle);
        return (IntPtr)System.Runtime.CompilerServices.Unsafe.AsPointer(ref MemoryMarshal.GetReference(tensor.bytes)); // libtorch's memory does not move
    }
}
