using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Exchange;

/// <summary>Every rank's tensor, one behind the other, without a way back for gradients.</summary>
internal static class GatheredTensor
{
    /// <summary>Collective.</summary>
    public static Tensor Of(Tensor tensor, ProcessGroup group)
    {
        using var own = tensor.detach();
        var output = empty([group.Size, .. tensor.shape], tensor.dtype, tensor.device);
        group.AllGather(output, own).Wait();
        return output;
    }
}
