using System.Runtime.InteropServices;

namespace FabricSharp.Collectives.Mpi;

/// <summary>Pieces of memory of one size that are used again and again. To be used under the runtime's lock.</summary>
internal sealed unsafe class MpiMemory(long bytes) : IDisposable
{
    private readonly Stack<IntPtr> _free = [];

    public byte* Take() => _free.TryPop(out var block) ? (byte*)block : (byte*)NativeMemory.AlignedAlloc((nuint)bytes, 64);

    public void Give(byte* block) => _free.Push((IntPtr)block);

    public void Dispose()
    {
        while (_free.TryPop(out var block))
            NativeMemory.AlignedFree((void*)block);
    }
}
