using System.Buffers.Binary;
using System.Collections;

namespace FabricSharp.DataParallel;

/// <summary>What a rank tells the others at the end of a backward pass: one small message of fixed size.</summary>
/// <param name="ForwardPasses">Synchronising forward passes so far: differs when a rank skipped or repeated one.</param>
/// <param name="Launched">Buckets that the rank has launched.</param>
/// <param name="State">Whether the pass went well, and what the rank expects of all.</param>
/// <param name="Used">For each parameter whether the rank has a gradient for it.</param>
internal readonly record struct ControlMessage(long ForwardPasses, int Launched, PassState State, BitArray Used)
{
    private const int HeaderBytes = 16;

    public static int SizeFor(int parameterCount) => HeaderBytes + (parameterCount + 7) / 8;

    public byte[] Encode()
    {
        var bytes = new byte[SizeFor(Used.Length)];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, ForwardPasses);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(8), Launched);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(12), (int)State);
        Used.CopyTo(bytes, HeaderBytes);
        return bytes;
    }

    public static ControlMessage Decode(byte[] all, int rank, int parameterCount)
    {
        var size = SizeFor(parameterCount);
        var bytes = all.AsSpan(rank * size, size);
        return new ControlMessage(
            BinaryPrimitives.ReadInt64LittleEndian(bytes),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[8..]),
            (PassState)BinaryPrimitives.ReadInt32LittleEndian(bytes[12..]),
            new BitArray(bytes[HeaderBytes..].ToArray()) { Length = parameterCount });
    }
}

/// <summary>How a rank's backward pass went.</summary>
[Flags]
internal enum PassState
{
    Regular = 0,

    /// <summary>The rank runs with unused parameters allowed.</summary>
    FindsUnused = 1,

    /// <summary>The rank promised a static graph.</summary>
    StaticGraph = 2,

    /// <summary>The backward pass ended in an exception on this rank.</summary>
    Broken = 4,

    /// <summary>The rank is out of data and only keeps the others company.</summary>
    Joined = 8,
}
