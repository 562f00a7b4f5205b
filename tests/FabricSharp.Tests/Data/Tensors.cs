using static TorchSharp.torch;

namespace FabricSharp.Tests.Data;

/// <summary>Counting tensors that are alive.</summary>
internal static class Tensors
{
    /// <summary>The count once the garbage of earlier tests is gone, so that it does not change by itself.</summary>
    public static long Settled()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        return Tensor.TotalCount;
    }
}
