using TorchSharp;

namespace FabricSharp.Interop.LibTorch;

/// <summary>
/// Reads and replaces <c>.grad</c> of a parameter by pointer. TorchSharp's property makes a managed wrapper on each read;
/// a reducer that looks at thousands of gradients per step must not.
/// All pointers named <c>tensor</c> are <c>at::Tensor*</c>, the same thing as <see cref="torch.Tensor.Handle"/>.
/// </summary>
internal static unsafe class GradientAccess
{
    /// <summary>A borrowed <c>at::Tensor*</c> of the gradient, valid until <c>.grad</c> is next changed; null when there is none.</summary>
    public static IntPtr GradientOf(IntPtr tensor)
    {
        var gradient = LibTorchLibrary.Api.TensorImplGrad(*(IntPtr*)tensor);
        return *(IntPtr*)gradient == LibTorchLibrary.Api.UndefinedTensorImpl ? IntPtr.Zero : gradient;
    }

    /// <summary>Makes <paramref name="gradient"/> the gradient: both then share the same memory.</summary>
    public static void SetGradient(IntPtr tensor, IntPtr gradient) =>
        Check(LibTorchLibrary.Api.AssignTensors(gradient, LibTorchLibrary.Api.TensorImplMutableGrad(*(IntPtr*)tensor)), "aoti_torch_assign_tensors");

    public static IntPtr DataPointer(IntPtr tensor)
    {
        IntPtr data;
        Check(LibTorchLibrary.Api.GetDataPointer(tensor, &data), "aoti_torch_get_data_ptr");
        return data;
    }

    public static long ElementCount(IntPtr tensor)
    {
        long count;
        Check(LibTorchLibrary.Api.GetElementCount(tensor, &count), "aoti_torch_get_numel");
        return count;
    }

    public static torch.ScalarType ScalarType(IntPtr tensor)
    {
        int type;
        Check(LibTorchLibrary.Api.GetScalarType(tensor, &type), "aoti_torch_get_dtype");
        return (torch.ScalarType)type;
    }

    /// <summary>Whether the tensor is strided (not sparse): only then has it a data pointer.</summary>
    public static bool IsStrided(IntPtr tensor)
    {
        int layout;
        Check(LibTorchLibrary.Api.GetLayout(tensor, &layout), "aoti_torch_get_layout");
        return layout == 0;
    }

    public static bool HasStrides(IntPtr tensor, ReadOnlySpan<long> expected)
    {
        long dimensions;
        long* strides;
        Check(LibTorchLibrary.Api.GetDimension(tensor, &dimensions), "aoti_torch_get_dim");
        Check(LibTorchLibrary.Api.GetStrides(tensor, &strides), "aoti_torch_get_strides");
        return new ReadOnlySpan<long>(strides, checked((int)dimensions)).SequenceEqual(expected);
    }

    /// <summary>
    /// How many tensors share the tensor's memory. c10::TensorImpl begins with vtable pointer, reference counts and the pointer to its StorageImpl;
    /// that one with vtable pointer and, in the low half of the next word, its use count. Verified by the allocator's self-test.
    /// </summary>
    public static int StorageUseCount(IntPtr tensor)
    {
        var implementation = *(IntPtr*)tensor;
        var storage = *(IntPtr*)(implementation + 2 * IntPtr.Size);
        return Volatile.Read(ref *(int*)(storage + IntPtr.Size));
    }

    /// <summary><c>destination.copy_(source)</c>, without recording it for autograd.</summary>
    public static void Copy(IntPtr destination, IntPtr source)
    {
        using (torch.no_grad())
            Check(LibTorchLibrary.Api.Copy(destination, source, 0), "aoti_torch_copy_");
    }

    internal static void Check(int status, string function)
    {
        if (status != 0)
            throw new InvalidOperationException($"libtorch: {function} failed with status {status} (its own message is on standard error).");
    }
}
