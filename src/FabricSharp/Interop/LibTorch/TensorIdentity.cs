using TorchSharp;

namespace FabricSharp.Interop.LibTorch;

/// <summary>
/// Which tensor an object of TorchSharp stands for. Several objects, with handles of their own, may hold the same tensor: each read of
/// <c>Embedding.weight</c> makes a new one, so an embedding and an output layer that share a weight show it under two handles.
/// </summary>
internal static unsafe class TensorIdentity
{
    /// <summary>The address of the TensorImpl; at::Tensor, which a handle points to, is a smart pointer to it and nothing else.</summary>
    public static IntPtr Of(torch.Tensor tensor)
    {
        var identity = *(IntPtr*)tensor.Handle;
        GC.KeepAlive(tensor);
        return identity;
    }
}
