using System.Buffers.Binary;
using System.Numerics;

namespace FabricSharp.Loggers.TensorBoard;

/// <summary>The checksum of TFRecord files: CRC-32C (Castagnoli), turned and shifted so that checksums of checksums do not degenerate.</summary>
internal static class Crc32C
{
    public static uint Masked(ReadOnlySpan<byte> bytes) => BitOperations.RotateRight(Compute(bytes), 15) + 0xA282EAD8;

    public static uint Compute(ReadOnlySpan<byte> bytes)
    {
        var crc = uint.MaxValue;
        for (; bytes.Length >= 8; bytes = bytes[8..])
            crc = BitOperations.Crc32C(crc, BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        foreach (var value in bytes)
            crc = BitOperations.Crc32C(crc, value);
        return ~crc;
    }
}
