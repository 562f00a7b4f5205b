namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>The checksum of zip files (polynomial 0xEDB88320, reflected), eight bytes at a time.</summary>
internal static class Crc32
{
    private const int Lanes = 8;

    private static readonly uint[] Tables = MakeTables();

    /// <param name="crc">Of what came before; 0 at first.</param>
    /// <param name="bytes">What follows.</param>
    public static uint Append(uint crc, ReadOnlySpan<byte> bytes)
    {
        crc = ~crc;
        var tables = Tables;
        for (; bytes.Length >= Lanes; bytes = bytes[Lanes..])
        {
            var low = crc ^ BitConverter.ToUInt32(bytes);
            var high = BitConverter.ToUInt32(bytes[4..]);
            crc = tables[(7 << 8) | (byte)low] ^ tables[(6 << 8) | (byte)(low >> 8)] ^ tables[(5 << 8) | (byte)(low >> 16)] ^ tables[(4 << 8) | (low >> 24)]
                ^ tables[(3 << 8) | (byte)high] ^ tables[(2 << 8) | (byte)(high >> 8)] ^ tables[(1 << 8) | (byte)(high >> 16)] ^ tables[high >> 24];
        }

        foreach (var value in bytes)
            crc = tables[(byte)(crc ^ value)] ^ (crc >> 8);
        return ~crc;
    }

    private static uint[] MakeTables()
    {
        var tables = new uint[Lanes << 8];
        for (var i = 0u; i < 256; i++)
        {
            var crc = i;
            for (var bit = 0; bit < 8; bit++)
                crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xEDB88320 : crc >> 1;
            tables[i] = crc;
        }

        for (var i = 256; i < tables.Length; i++)
            tables[i] = (tables[i - 256] >> 8) ^ tables[(byte)tables[i - 256]];
        return tables;
    }
}
