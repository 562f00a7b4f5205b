using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>
/// Memory in which large gradients live on their own, readable by the other ranks: a place can hold any gradient of its size, and which place
/// holds which may differ from rank to rank. Each owner (a parameter) can always have one place.
/// </summary>
internal abstract class GradientPool : ITensorMemory, IDisposable
{
    /// <inheritdoc/>
    public abstract (IntPtr Begin, IntPtr End) Range { get; }

    /// <summary>Whether gradients of this size live here.</summary>
    public abstract bool Covers(long bytes);

    /// <summary>A place for a tensor that may turn out to be a gradient; null where the rest is kept for owners that have none. Local.</summary>
    public abstract IntPtr TryAllocate(nuint bytes);

    /// <summary>Makes the place at <paramref name="data"/> the owner's; false where it is no place of the pool, or another owner's. Local.</summary>
    public abstract bool TryAdopt(int owner, IntPtr data);

    /// <summary>
    /// A flat tensor in a place that becomes the owner's. Where none is left it is a place that the owner has already, in a tensor that somebody has
    /// kept: that tensor's content changes, as that of a kept bucket view does. Local.
    /// </summary>
    public abstract Tensor Take(int owner, ScalarType type);

    /// <summary>From now on <see cref="TryAllocate"/> gives nothing: the reducer has failed, and reductions may still be under way. Local.</summary>
    public abstract void StopServing();

    /// <inheritdoc/>
    public abstract void Release(IntPtr data);

    /// <summary>Gives the memory back as soon as no tensor lies in it. Local.</summary>
    public abstract void Dispose();
}
