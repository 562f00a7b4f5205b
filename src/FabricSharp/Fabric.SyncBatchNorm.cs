using FabricSharp.DataParallel;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Batch normalisation over all ranks.</summary>
public sealed partial class Fabric
{
    /// <summary>
    /// Has every batch normalisation inside <paramref name="module"/> use the batches of all ranks: see <see cref="SyncBatchNorm.Convert{T}"/>. With a single device
    /// nothing is changed. Local; to be called on every rank, before <c>Setup</c>.
    /// </summary>
    /// <param name="module">A model that was not set up.</param>
    /// <returns>The module itself, or its replacement where it is a batch normalisation itself.</returns>
    /// <exception cref="ArgumentException">A field cannot hold the replacement; the message names it and says how to declare it.</exception>
    public T ConvertSyncBatchNorm<T>(T module)
        where T : nn.Module
    {
        ArgumentNullException.ThrowIfNull(module);
        RequireLaunched(nameof(ConvertSyncBatchNorm));
        return Strategy.Group is { } group ? SyncBatchNorm.Convert(module, group) : module;
    }
}
