using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>
/// A gradient channel over two process groups of the same ranks: buckets are all-reduced in one, control messages exchanged in the other, so that
/// neither waits for the other. Buckets lie in ordinary memory of the first group's device. For back ends without memory that ranks share.
/// </summary>
/// <param name="buckets">Reduces buckets; belongs to the channel from now on.</param>
/// <param name="control">Exchanges control messages; belongs to the channel from now on.</param>
/// <param name="exchangeBytes">Largest control message.</param>
internal sealed class GroupGradientChannel(ProcessGroup buckets, ProcessGroup control, int exchangeBytes) : GradientChannel
{
    public override GradientBuffer Allocate(long bytes) => new TensorBuffer(bytes, buckets.TensorDevice);

    public override Work Reduce(GradientBuffer buffer, long byteOffset, long elementCount, ScalarType type, double scale)
    {
        var piece = ((TensorBuffer)buffer).Piece(byteOffset, elementCount, type);
        try
        {
            return new PieceWork(buckets.AllReduce(piece, scale == 1 ? ReduceOp.Sum : ReduceOp.PreMulSum(scale)), piece);
        }
        catch
        {
            piece.Dispose();
            throw;
        }
    }

    public override void Progress() => buckets.Progress();

    public override void Exchange(ReadOnlySpan<byte> mine, Span<byte> all, TimeSpan? timeout = null)
    {
        if (mine.Length > exchangeBytes || all.Length != mine.Length * control.Size)
            throw new ArgumentException($"An exchange of {mine.Length} bytes between {control.Size} ranks does not fit {exchangeBytes} and {all.Length} bytes.", nameof(mine));
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        var input = tensor(mine.ToArray(), device: control.TensorDevice);
        var output = empty(all.Length, ScalarType.Byte, control.TensorDevice);
        control.AllGather(output, input).Wait(timeout);
        output.cpu().data<byte>().ToArray().CopyTo(all);
    }

    public override void Abort(string reason)
    {
        buckets.Abort(reason);
        control.Abort(reason);
    }

    public override void Dispose()
    {
        buckets.Dispose();
        control.Dispose();
    }

    /// <summary>Memory that libtorch made.</summary>
    private sealed class TensorBuffer : GradientBuffer
    {
        private readonly Tensor _bytes;

        public TensorBuffer(long bytes, Device device)
        {
            using var gradientsOff = no_grad();
            _bytes = zeros(bytes, ScalarType.Byte, device).DetachFromDisposeScope();
            (Bytes, Pointer) = (bytes, TensorMemory.PointerOf(_bytes));
        }

        public override IntPtr Pointer { get; }

        public override long Bytes { get; }

        public override Tensor AsTensor(ScalarType type) => Piece(0, Bytes / type.SizeInBytes(), type);

        /// <summary>A view that no scope disposes.</summary>
        public Tensor Piece(long offset, long count, ScalarType type)
        {
            using var gradientsOff = no_grad();
            using var part = _bytes.narrow(0, offset, count * type.SizeInBytes());
            return TensorData.ViewAs(part, type).DetachFromDisposeScope();
        }

        public override void Dispose() => _bytes.Dispose();
    }

    /// <summary>The reduction of a piece, whose view goes when it is over.</summary>
    private sealed class PieceWork(Work inner, Tensor piece) : Work
    {
        private Tensor? _piece = piece;

        public override bool IsCompleted
        {
            get
            {
                if (!inner.IsCompleted)
                    return false;
                End();
                return true;
            }
        }

        public override Exception? Exception => inner.Exception;

        public override void Wait(TimeSpan? timeout = null)
        {
            try
            {
                inner.Wait(timeout);
            }
            finally
            {
                if (inner.IsCompleted && inner.Exception is null) // else its memory may be in use still
                    End();
            }
        }

        private void End() => Interlocked.Exchange(ref _piece, null)?.Dispose();
    }
}
