using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace FabricSharp.Loggers.TensorBoard;

/// <summary>
/// A Protocol Buffers message that is being written, field by field. Wire format: each field is its key (number · 8 + type) as a varint,
/// then the value: type 0 a varint, 1 eight bytes, 2 a varint length and so many bytes, 5 four bytes; all little-endian.
/// </summary>
internal sealed class ProtocolMessage
{
    private const int Varint = 0, EightBytes = 1, LengthAndBytes = 2, FourBytes = 5;

    private readonly ArrayBufferWriter<byte> _bytes = new(64);

    public ReadOnlySpan<byte> Bytes => _bytes.WrittenSpan;

    /// <summary>int32, int64, bool or an enum.</summary>
    public ProtocolMessage Integer(int field, long value)
    {
        WriteKey(field, Varint);
        WriteVarint((ulong)value);
        return this;
    }

    public ProtocolMessage Float(int field, float value)
    {
        WriteKey(field, FourBytes);
        BinaryPrimitives.WriteSingleLittleEndian(_bytes.GetSpan(4), value);
        _bytes.Advance(4);
        return this;
    }

    public ProtocolMessage Double(int field, double value)
    {
        WriteKey(field, EightBytes);
        BinaryPrimitives.WriteDoubleLittleEndian(_bytes.GetSpan(8), value);
        _bytes.Advance(8);
        return this;
    }

    public ProtocolMessage Text(int field, string value) => Block(field, Encoding.UTF8.GetBytes(value));

    public ProtocolMessage Message(int field, ProtocolMessage value) => Block(field, value.Bytes);

    private ProtocolMessage Block(int field, ReadOnlySpan<byte> value)
    {
        WriteKey(field, LengthAndBytes);
        WriteVarint((ulong)value.Length);
        _bytes.Write(value);
        return this;
    }

    private void WriteKey(int field, int type) => WriteVarint((ulong)(field << 3 | type));

    /// <summary>Seven bits a byte, the lowest first; the high bit says that more follow.</summary>
    private void WriteVarint(ulong value)
    {
        var span = _bytes.GetSpan(10);
        var length = 0;
        for (; value >= 0x80; value >>= 7)
            span[length++] = (byte)(value | 0x80);
        span[length++] = (byte)value;
        _bytes.Advance(length);
    }
}
