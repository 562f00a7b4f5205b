using System.Buffers.Binary;
using System.Text;

namespace FabricSharp.Tests.Loggers;

/// <summary>Reads event files by the definitions of TFRecord and Protocol Buffers; shares nothing with the writer.</summary>
internal static class EventFileReader
{
    /// <summary>Every event of the file; a wrong checksum or a torn record fails the test.</summary>
    public static List<Event> Read(string path) => [.. Records(path).Select(record => new Event(new Message(record)))];

    public static List<byte[]> Records(string path)
    {
        var bytes = File.ReadAllBytes(path);
        var records = new List<byte[]>();
        for (var at = 0; at < bytes.Length;)
        {
            var length = checked((int)BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(at)));
            Assert.Equal(MaskedCrc(bytes.AsSpan(at, 8)), BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at + 8)));
            var data = bytes.AsSpan(at + 12, length);
            Assert.Equal(MaskedCrc(data), BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(at + 12 + length)));
            records.Add(data.ToArray());
            at += 16 + length;
        }

        return records;
    }

    public static uint MaskedCrc(ReadOnlySpan<byte> bytes)
    {
        var crc = 0xFFFFFFFFu;
        foreach (var value in bytes)
        {
            crc ^= value;
            for (var bit = 0; bit < 8; bit++)
                crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1; // Castagnoli's polynomial, bits reversed
        }

        crc = ~crc;
        return unchecked(((crc >> 15) | (crc << 17)) + 0xA282EAD8);
    }
}

/// <summary>An event as far as the loggers write it.</summary>
internal sealed class Event(Message message)
{
    public double WallTime => message.Double(1);

    public long Step => message.Has(2) ? message.Integer(2) : 0;

    public string? FileVersion => message.Has(3) ? message.Text(3) : null;

    public Message Value => message.Sub(5).Sub(1);

    public string Tag => Value.Text(1);

    public float Scalar => Value.Float(2);

    public bool IsScalar => message.Has(5) && Value.Has(2);

    public Message PluginContent(string plugin)
    {
        var data = Value.Sub(9).Sub(1);
        Assert.Equal(plugin, data.Text(1));
        return data.Sub(2);
    }
}

/// <summary>The fields of a Protocol Buffers message by number, in order.</summary>
internal sealed class Message
{
    private readonly List<(int Field, int Type, byte[] Bytes, ulong Number)> _fields = [];

    public Message(byte[] bytes)
    {
        for (var at = 0; at < bytes.Length;)
        {
            var key = Varint(bytes, ref at);
            var (field, type) = ((int)(key >> 3), (int)(key & 7));
            var number = type == 0 ? Varint(bytes, ref at) : 0;
            var length = type switch { 0 => 0, 1 => 8, 2 => (int)Varint(bytes, ref at), 5 => 4, _ => throw new InvalidDataException($"wire type {type}") };
            _fields.Add((field, type, bytes[at..(at + length)], number));
            at += length;
        }
    }

    public bool Has(int field) => _fields.Any(f => f.Field == field);

    public long Integer(int field) => (long)Get(field, 0).Number;

    public double Double(int field) => BinaryPrimitives.ReadDoubleLittleEndian(Get(field, 1).Bytes);

    public float Float(int field) => BinaryPrimitives.ReadSingleLittleEndian(Get(field, 5).Bytes);

    public string Text(int field) => new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(Get(field, 2).Bytes);

    public Message Sub(int field) => new(Get(field, 2).Bytes);

    public IEnumerable<Message> Subs(int field) => _fields.Where(f => f.Field == field).Select(f => new Message(f.Bytes));

    private (int Field, int Type, byte[] Bytes, ulong Number) Get(int field, int type)
    {
        var found = _fields.Single(f => f.Field == field);
        Assert.Equal(type, found.Type);
        return found;
    }

    private static ulong Varint(byte[] bytes, ref int at)
    {
        var value = 0UL;
        for (var shift = 0; ; shift += 7)
        {
            var part = bytes[at++];
            value |= (ulong)(part & 0x7F) << shift;
            if (part < 0x80)
                return value;
        }
    }
}
