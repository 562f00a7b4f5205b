using static TorchSharp.torch;

namespace FabricSharp.Tests;

/// <summary>Counting tensors that are alive.</summary>
internal static class LiveTensors
{
    /// <summary>The count once the garbage of earlier tests is gone, so that it does not change by itself.</summary>
    public static long Settled()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        return Tensor.TotalCount;
    }
}
