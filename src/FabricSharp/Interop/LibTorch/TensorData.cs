using System.Text;
using TorchSharp;

namespace FabricSharp.Interop.LibTorch;

/// <summary>
/// Python's <c>tensor.data = other</c>: the tensor object keeps its identity (autograd state, hooks, everyone who holds it) and gets
/// other memory, device or element type.
/// </summary>
internal static unsafe class TensorData
{
    private static readonly byte[] Name = Encoding.ASCII.GetBytes("aten::set_data\0");
    private static readonly byte[] Overload = [0];
    private static readonly byte[] ViewName = Encoding.ASCII.GetBytes("aten::view\0");
    private static readonly byte[] ViewOverload = Encoding.ASCII.GetBytes("dtype\0");

    public static bool IsSupported => LibTorchLibrary.IsSupported;

    public static void Set(torch.Tensor tensor, torch.Tensor newData)
    {
        var stack = stackalloc ulong[2]; // the dispatcher takes ownership of the handles on its stack
        stack[0] = NewHandle(tensor);
        stack[1] = NewHandle(newData);
        fixed (byte* name = Name, overload = Overload)
            GradientAccess.Check(LibTorchLibrary.Api.CallDispatcher(name, overload, stack), "aten::set_data");
    }

    /// <summary>Python's <c>tensor.view(dtype)</c>: the same memory read as elements of another type.</summary>
    public static torch.Tensor ViewAs(torch.Tensor tensor, torch.ScalarType type)
    {
        if (!IsSupported)
            throw new PlatformNotSupportedException($"Memory cannot be read as {type} here: {LibTorchLibrary.NotSupportedReason}.");
        var stack = stackalloc ulong[2];
        stack[0] = NewHandle(tensor);
        stack[1] = (ulong)type;
        fixed (byte* name = ViewName, overload = ViewOverload)
            GradientAccess.Check(LibTorchLibrary.Api.CallDispatcher(name, overload, stack), "aten::view.dtype");
        return torch.Tensor.UnsafeCreateTensor((IntPtr)stack[0]);
    }

    private static ulong NewHandle(torch.Tensor tensor)
    {
        IntPtr handle;
        GradientAccess.Check(LibTorchLibrary.Api.NewTensorHandle(tensor.Handle, &handle), "aoti_torch_new_tensor_handle");
        GC.KeepAlive(tensor);
        return (ulong)handle;
    }
}
