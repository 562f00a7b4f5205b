using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// Copies that leave the result in the cache, where the next reader (this core or another) finds it. The platform's memmove writes larger blocks
/// with string instructions that may go past the cache.
/// </summary>
internal static unsafe class CacheCopy
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Copy(byte* destination, byte* source, long bytes)
    {
        long i = 0;
        for (; i <= bytes - 2 * Vector512<byte>.Count; i += 2 * Vector512<byte>.Count)
        {
            var first = Vector512.Load(source + i);
            var second = Vector512.Load(source + i + Vector512<byte>.Count);
            first.Store(destination + i);
            second.Store(destination + i + Vector512<byte>.Count);
        }

        Unsafe.CopyBlockUnaligned(destination + i, source + i, (uint)(bytes - i));
    }
}
