using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Devices;

/// <summary>Bucket reductions and control messages of one reducer whose gradients live on a device: buckets are tensors there, and nobody looks into them from here.</summary>
internal sealed class DeviceGradientChannel(DeviceGradientTransport transport, Device device, string name, int exchangeBytes) : GradientChannel
{
    private long _buffers;

    public override bool NeedsTensors => true;

    public override GradientBuffer Allocate(long bytes) => new DeviceBuffer(device, ++_buffers, bytes);

    public override Work Reduce(GradientBuffer buffer, long byteOffset, long elementCount, ScalarType type, double scale)
    {
        var bucket = (DeviceBuffer)buffer;
        using var gradientsOff = no_grad();
        using var part = bucket.Flat.narrow(0, byteOffset / type.SizeInBytes(), elementCount);
        return transport.Reduce(part, scale, $"Reduce of {elementCount} × {type} at byte {byteOffset} of bucket buffer {bucket.Number} of '{name}'");
    }

    /// <summary>The device gets on by itself.</summary>
    public override void Progress()
    {
    }

    public override void Exchange(ReadOnlySpan<byte> mine, Span<byte> all, TimeSpan? timeout = null)
    {
        if (mine.Length > exchangeBytes || all.Length != mine.Length * transport.Size)
            throw new ArgumentException($"An exchange of {mine.Length} bytes between {transport.Size} ranks does not fit {exchangeBytes} and {all.Length} bytes.", nameof(mine));
        transport.Exchange(mine, all, $"the end of a backward pass of '{name}', {mine.Length} bytes", timeout ?? transport.Timeout);
    }

    public override void Abort(string reason) => transport.Abort(reason);

    public override void Dispose() => transport.Dispose();

    /// <summary>The memory of a bucket is libtorch's; it is made when its type is known.</summary>
    private sealed class DeviceBuffer(Device device, long number, long bytes) : GradientBuffer
    {
        private Tensor? _flat;
        private IntPtr _pointer;

        public long Number => number;

        public Tensor Flat => _flat ?? throw new InvalidOperationException($"Bucket buffer {number} has no tensor yet.");

        /// <summary>An address of the device: to be compared, not to be read.</summary>
        public override IntPtr Pointer => _pointer;

        public override long Bytes => bytes;

        public override Tensor AsTensor(ScalarType type)
        {
            using var gradientsOff = no_grad();
            _flat = zeros(bytes / type.SizeInBytes(), type, device).DetachFromDisposeScope();
            _pointer = TensorMemory.PointerOf(_flat);
            return _flat.alias();
        }

        public override void Dispose()
        {
            _flat?.Dispose();
            _flat = null;
        }
    }
}
