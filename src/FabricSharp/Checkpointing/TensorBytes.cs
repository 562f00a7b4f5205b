using FabricSharp.Interop.LibTorch;
using Microsoft.Win32.SafeHandles;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>Tensors to and from files without a copy in managed memory, piece by piece, so that their size does not matter.</summary>
internal static unsafe class TensorBytes
{
    private const long Piece = 1 << 20;

    /// <summary>Tensors that cannot be read or written where they are go through a copy of at most so many bytes at a time.</summary>
    private const long Staging = 16 << 20;

    /// <summary>Hands the elements of <paramref name="tensor"/> over in row-major order, wherever and however they lie.</summary>
    public static void Write(Tensor tensor, HashedFile file)
    {
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        ForEachPart(tensor.detach(), part => WritePart(part, file));
    }

    private static void WritePart(Tensor part, HashedFile file)
    {
        var plain = part.cpu().contiguous();
        var length = plain.NumberOfElements * plain.ElementSize;
        var start = length == 0 ? null : AddressOf(plain);
        for (var done = 0L; done < length; done += Piece)
            file.Write(new ReadOnlySpan<byte>(start + done, (int)Math.Min(Piece, length - done)));
        GC.KeepAlive(plain);
    }

    /// <summary>Overwrites <paramref name="target"/>, which has the type and shape of <paramref name="stored"/>, and keeps the tensor object.</summary>
    public static void Read(StoredTensor stored, SafeFileHandle handle, string file, Tensor target)
    {
        if (target.NumberOfElements * target.ElementSize != stored.Length)
            throw new InvalidOperationException($"'{stored.Name}' of {stored.Layout} would be written over the memory of {StoredTensor.LayoutOf(target)}.");
        if (stored.Length == 0)
            return;
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        if (!LiesPlainly(target))
        {
            var offset = stored.Offset;
            ForEachPart(target, part =>
            {
                var staging = empty(part.shape, part.dtype);
                var here = stored with { Offset = offset, Length = part.NumberOfElements * part.ElementSize };
                Fill(here, handle, file, staging);
                part.copy_(staging);
                offset += here.Length;
            });
            return;
        }

        Fill(stored, handle, file, target);
        target.view(-1).narrow(0, 0, 0).zero_(); // touches nothing, but tells autograd that the tensor was changed in place
    }

    /// <summary>Hands the bytes of <paramref name="stored"/> over as they are.</summary>
    public static void Copy(StoredTensor stored, SafeFileHandle handle, string file, HashedFile destination)
    {
        var buffer = new byte[Math.Min(Piece, stored.Length)];
        for (var done = 0L; done < stored.Length; done += buffer.Length)
        {
            var piece = buffer.AsSpan(0, (int)Math.Min(buffer.Length, stored.Length - done));
            ReadExactly(handle, file, piece, stored.Offset + done);
            RequireTruthValues(stored, file, piece);
            destination.Write(piece);
        }
    }

    /// <summary>A truth value that is neither 0 nor 1 is undefined behaviour in C++.</summary>
    public static void RequireTruthValues(StoredTensor stored, string file, ReadOnlySpan<byte> piece)
    {
        if (stored.Type == ScalarType.Bool && piece.ContainsAnyExceptInRange((byte)0, (byte)1))
            throw new CheckpointException($"'{file}': tensor '{stored.Name}' of truth values holds bytes other than 0 and 1. The file is corrupt.");
    }

    /// <summary>Fills <paramref name="buffer"/> from <paramref name="offset"/> on.</summary>
    public static void ReadExactly(SafeFileHandle handle, string file, Span<byte> buffer, long offset)
    {
        for (var done = 0; done < buffer.Length;)
        {
            var count = RandomAccess.Read(handle, buffer[done..], offset + done);
            if (count == 0)
                throw new CheckpointException($"'{file}' is truncated: it ends at byte {offset + done}, where {buffer.Length - done} more were expected.");
            done += count;
        }
    }

    private static bool LiesPlainly(Tensor tensor) => tensor.device_type == TorchSharp.DeviceType.CPU && tensor.is_contiguous();

    /// <summary>Views that are one after the other the whole, each small or with its elements in a row in the CPU's memory.</summary>
    private static void ForEachPart(Tensor tensor, Action<Tensor> action)
    {
        using var scope = NewDisposeScope();
        var bytes = tensor.NumberOfElements * tensor.ElementSize;
        if (LiesPlainly(tensor) || bytes <= Staging || tensor.dim() == 0)
        {
            action(tensor);
            return;
        }

        var (rows, rowBytes) = (tensor.shape[0], bytes / tensor.shape[0]);
        var step = Math.Max(1, Staging / rowBytes);
        for (var row = 0L; row < rows; row += step)
        {
            using var part = NewDisposeScope();
            ForEachPart(rowBytes > Staging ? tensor.select(0, row) : tensor.narrow(0, row, Math.Min(step, rows - row)), action);
        }
    }

    private static void Fill(StoredTensor stored, SafeFileHandle handle, string file, Tensor target)
    {
        var start = AddressOf(target);
        for (var done = 0L; done < stored.Length; done += Piece)
        {
            var piece = new Span<byte>(start + done, (int)Math.Min(Piece, stored.Length - done));
            ReadExactly(handle, file, piece, stored.Offset + done);
            RequireTruthValues(stored, file, piece);
        }

        GC.KeepAlive(target);
    }

    /// <summary>Of the first element alone, because a span of the whole cannot exceed 2 GiB.</summary>
    public static byte* AddressOf(Tensor tensor)
    {
        using var flat = tensor.detach().view(-1);
        using var first = flat.narrow(0, 0, 1);
        return (byte*)TensorMemory.PointerOf(first);
    }
}
