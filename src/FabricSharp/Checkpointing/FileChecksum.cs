using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace FabricSharp.Checkpointing;

/// <summary>The SHA-256 checksum of a file: one piece is hashed while the next is read.</summary>
internal static unsafe class FileChecksum
{
    private const int Piece = 4 << 20;

    /// <param name="handle">Of the open file.</param>
    /// <param name="file">Its name, for messages.</param>
    /// <param name="length">How much of it.</param>
    /// <returns>64 hexadecimal digits.</returns>
    public static string Of(SafeFileHandle handle, string file, long length)
    {
        using var hash = new ParallelHash();
        var size = (int)Math.Min(Piece, Math.Max(length, 1));
        var buffers = (byte*)NativeMemory.Alloc((nuint)size * 2);
        var hashing = Task.CompletedTask;
        try
        {
            var first = true;
            for (var done = 0L; done < length;)
            {
                var count = (int)Math.Min(size, length - done);
                var reading = first ? buffers : buffers + size;
                TensorBytes.ReadExactly(handle, file, new Span<byte>(reading, count), done);
                hashing.Wait();
                hashing = hash.Begin((IntPtr)reading, count);
                first = !first;
                done += count;
            }

            hashing.Wait();
            return hash.Finish();
        }
        finally
        {
            hashing.Wait(); // it reads the memory that is freed now
            NativeMemory.Free(buffers);
        }
    }
}
