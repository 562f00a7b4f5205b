using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>Tensors that do not lie in row-major order, brought into it without libtorch.</summary>
internal static unsafe class StridedBytes
{
    private const int Piece = 1 << 20;

    /// <summary>Reads what the tensor spans, then picks its elements.</summary>
    public static void Copy(StoredTensor stored, TensorReference tensor, SafeFileHandle handle, string file, HashedFile destination)
    {
        var size = tensor.Element.Size;
        var bytes = tensor.Extent * size;
        var extent = (byte*)NativeMemory.Alloc((nuint)bytes);
        try
        {
            for (var done = 0L; done < bytes; done += Piece)
                TensorBytes.ReadExactly(handle, file, new Span<byte>(extent + done, (int)Math.Min(Piece, bytes - done)), stored.Offset + done);
            Pick(stored, tensor, extent, file, destination);
        }
        finally
        {
            NativeMemory.Free(extent);
        }
    }

    private static void Pick(StoredTensor stored, TensorReference tensor, byte* extent, string file, HashedFile destination)
    {
        var size = tensor.Element.Size;
        var index = new long[tensor.Shape.Length];
        var piece = new byte[Piece];
        var (filled, from) = (0, 0L);
        for (var done = 0L; done < stored.Length; done += size)
        {
            new ReadOnlySpan<byte>(extent + (from * size), size).CopyTo(piece.AsSpan(filled));
            filled += size;
            from = Next(tensor, index, from);
            if (filled < piece.Length && done + size < stored.Length)
                continue;
            TensorBytes.RequireTruthValues(stored, file, piece.AsSpan(0, filled));
            destination.Write(piece.AsSpan(0, filled));
            filled = 0;
        }
    }

    /// <summary>Counts the index up, the last dimension fastest, and moves along.</summary>
    private static long Next(TensorReference tensor, long[] index, long from)
    {
        for (var d = index.Length - 1; d >= 0; d--)
        {
            from += tensor.Strides[d];
            if (++index[d] < tensor.Shape[d])
                break;
            from -= tensor.Strides[d] * tensor.Shape[d];
            index[d] = 0;
        }

        return from;
    }
}
