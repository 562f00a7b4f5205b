using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// Memory of the same size on every rank that every rank can read and write. This rank's own mapping lives until the buffer is disposed
/// <i>and</i> no tensor uses it.
/// </summary>
internal sealed unsafe class SharedMemoryBuffer : GradientBuffer
{
    private readonly SharedMemorySegment[] _segments;
    private readonly int _rank;

    /// <summary>Holders of this rank's mapping: the buffer itself and the tensor made of it.</summary>
    private int _holders = 1;
    private int _disposed;

    /// <summary>Makes the buffer. Collective.</summary>
    public SharedMemoryBuffer(SharedMemoryWorld world, long number, long bytes)
    {
        Number = number;
        Bytes = bytes;
        _rank = world.Rank;
        _segments = SharedMemoryExchange.CreateEach(world, $"bucket buffer {number}", Math.Max(bytes, 64));
    }

    /// <summary>The same on every rank: which buffer an operation means.</summary>
    public long Number { get; }

    public override long Bytes { get; }

    public override IntPtr Pointer => (IntPtr)Of(_rank);

    public byte* Of(int rank) => _segments[rank].Pointer;

    public override Tensor AsTensor(ScalarType type)
    {
        Interlocked.Increment(ref _holders);
        return ForeignMemoryTensor.Create(Pointer, Bytes / type.SizeInBytes(), type, Release);
    }

    public override void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        for (var rank = 0; rank < _segments.Length; rank++)
            if (rank != _rank)
                _segments[rank].Dispose();
        Release();
    }

    private void Release()
    {
        if (Interlocked.Decrement(ref _holders) == 0)
            _segments[_rank].Dispose();
    }
}
