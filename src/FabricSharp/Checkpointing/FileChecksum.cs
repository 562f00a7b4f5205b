using System.IO.Hashing;
using FabricSharp.Interop.Posix;
using Microsoft.Win32.SafeHandles;

namespace FabricSharp.Checkpointing;

/// <summary>
/// The checksum of a file: XXH3 of 128 bits. It finds what disks and transfers do to a file at the speed of memory; it is no protection against
/// somebody who changes file and manifest on purpose.
/// </summary>
internal static class FileChecksum
{
    private const int Piece = 1 << 20; // stays in the cache between reading and hashing

    /// <summary>How far the disk reads ahead, so that it does not wait while a piece is hashed.</summary>
    private const int Ahead = 16 << 20;

    /// <param name="handle">Of the open file.</param>
    /// <param name="file">Its name, for messages.</param>
    /// <param name="length">How much of it.</param>
    /// <returns>32 hexadecimal digits.</returns>
    public static string Of(SafeFileHandle handle, string file, long length)
    {
        var hash = new XxHash128();
        var buffer = new byte[Math.Min(Piece, length)];
        for (var done = 0L; done < length;)
        {
            var piece = buffer.AsSpan(0, (int)Math.Min(buffer.Length, length - done));
            if (done % Ahead == 0 && PosixApi.IsSupported)
                PosixApi.BeginReading(handle, done, 2 * Ahead);
            TensorBytes.ReadExactly(handle, file, piece, done);
            hash.Append(piece);
            done += piece.Length;
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
