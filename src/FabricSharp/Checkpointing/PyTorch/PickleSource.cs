using System.Buffers.Binary;
using System.Text;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>Fills the buffer from a position of the file on.</summary>
internal delegate void FillBytes(Span<byte> buffer, long position);

/// <summary>The bytes of a pickle, read in pieces.</summary>
/// <param name="fill">Reads the file.</param>
/// <param name="start">Of the pickle in the file.</param>
/// <param name="end">Nothing is read from here on.</param>
internal sealed class PickleSource(FillBytes fill, long start, long end)
{
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly byte[] _buffer = new byte[1 << 14];
    private int _next;
    private int _filled;
    private long _filledEnd = start;

    public PickleSource(byte[] bytes)
        : this((buffer, position) => bytes.AsSpan((int)position, buffer.Length).CopyTo(buffer), 0, bytes.Length)
    {
    }

    /// <summary>Of the next byte in the file.</summary>
    public long Position => _filledEnd - (_filled - _next);

    private long Remaining => end - Position;

    public byte ReadByte()
    {
        if (_next == _filled)
            Refill();
        return _buffer[_next++];
    }

    public byte[] ReadBytes(ulong count)
    {
        if (count > (ulong)Remaining || count > int.MaxValue / 2)
            throw Ended(count);
        var bytes = new byte[count];
        var buffered = Math.Min(bytes.Length, _filled - _next);
        _buffer.AsSpan(_next, buffered).CopyTo(bytes);
        _next += buffered;
        if (buffered < bytes.Length)
        {
            fill(bytes.AsSpan(buffered), _filledEnd);
            _filledEnd += bytes.Length - buffered;
            _next = _filled = 0;
        }

        return bytes;
    }

    public ulong ReadNumber(int bytes)
    {
        Span<byte> number = stackalloc byte[8];
        number.Clear();
        for (var i = 0; i < bytes; i++)
            number[i] = ReadByte();
        return BinaryPrimitives.ReadUInt64LittleEndian(number);
    }

    public string ReadText(ulong bytes) => TextOf(ReadBytes(bytes));

    /// <summary>Up to a line feed, which is not part of it.</summary>
    public string ReadLine(int limit)
    {
        var line = new List<byte>();
        for (var next = ReadByte(); next != '\n'; next = ReadByte())
        {
            if (line.Count == limit)
                throw new FormatException($"a name has more than {limit} bytes");
            line.Add(next);
        }

        return TextOf([.. line]);
    }

    private static string TextOf(byte[] bytes)
    {
        try
        {
            return Utf8.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            throw new FormatException("a text is not UTF-8");
        }
    }

    private void Refill()
    {
        var count = (int)Math.Min(_buffer.Length, end - _filledEnd);
        if (count <= 0)
            throw Ended(1);
        fill(_buffer.AsSpan(0, count), _filledEnd);
        (_next, _filled) = (0, count);
        _filledEnd += count;
    }

    private FormatException Ended(ulong wanted) => new($"the pickle ends at byte {end}, where {wanted} more were expected at byte {Position}: it is truncated or corrupt");
}
