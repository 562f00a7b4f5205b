using FabricSharp.DataParallel;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Collectives that gradients flow through.</summary>
public sealed partial class Fabric
{
    /// <summary>Collects every rank's tensor. Collective; with <paramref name="syncGrads"/> the backward pass through it is collective as well.</summary>
    /// <param name="tensor">Same type and shape on every rank.</param>
    /// <param name="syncGrads">
    /// True: gradients flow back, each rank's share being the sum over all ranks. False: the result is cut off from the graph.
    /// </param>
    /// <returns>A new tensor of shape (world size, …shape), rank r's at index r; with a single device the tensor itself, unchanged.</returns>
    public Tensor AllGather(Tensor tensor, bool syncGrads)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        RequireLaunched(nameof(AllGather));
        return syncGrads && Strategy.Group is { } group ? group.AllGatherWithGradient(tensor) : AllGather(tensor);
    }
}
