using static TorchSharp.torch;

namespace FabricSharp.Collectives.Devices;

/// <summary>What moves a reducer's gradients and control messages where gradients are known as tensors, not as addresses.</summary>
internal abstract class DeviceGradientTransport : IDisposable
{
    public abstract int Size { get; }

    public abstract TimeSpan Timeout { get; }

    /// <summary>Begins to replace <paramref name="part"/> on every rank by the sum of each rank's times <paramref name="scale"/>. Local.</summary>
    /// <param name="part">Flat and contiguous.</param>
    /// <param name="scale">The same on every rank.</param>
    /// <param name="text">What errors call it; the same on every rank.</param>
    public abstract Work Reduce(Tensor part, double scale, string text);

    /// <summary>As <see cref="GradientChannel.Exchange"/>.</summary>
    public abstract void Exchange(ReadOnlySpan<byte> mine, Span<byte> all, string text, TimeSpan timeout);

    public abstract void Abort(string reason);

    public abstract void Dispose();
}
