using System.Buffers.Binary;
using System.Globalization;

namespace FabricSharp.Loggers.TensorBoard;

/// <summary>
/// A file of events in TFRecord frames: length (8 bytes), its masked CRC-32C (4), the event, its masked CRC-32C (4). Events are kept in memory
/// until <see cref="Flush"/>; one that failed can be tried again.
/// </summary>
internal sealed class EventFile : IDisposable
{
    private const int LargestPending = 64 * 1024;
    private static int _made;

    private readonly FileStream _stream;
    private readonly MemoryStream _pending = new();
    private long _length;

    private EventFile(FileStream stream) => _stream = stream;

    public bool IsFlushDue => _pending.Length >= LargestPending;

    /// <param name="folder">Is made.</param>
    /// <param name="wallTime">Seconds since 1970.</param>
    public static EventFile Create(string folder, double wallTime)
    {
        Directory.CreateDirectory(folder);
        var name = string.Create(
            CultureInfo.InvariantCulture, $"events.out.tfevents.{(long)wallTime:D10}.{Environment.MachineName}.{Environment.ProcessId}.{Interlocked.Increment(ref _made) - 1}");
        var file = new EventFile(new FileStream(Path.Combine(folder, name), FileMode.CreateNew, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0));
        file.Add(EventMessages.FileVersion(wallTime));
        return file;
    }

    public void Add(ProtocolMessage message)
    {
        var bytes = message.Bytes;
        Span<byte> header = stackalloc byte[12], footer = stackalloc byte[4];
        BinaryPrimitives.WriteUInt64LittleEndian(header, (ulong)bytes.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(header[8..], Crc32C.Masked(header[..8]));
        BinaryPrimitives.WriteUInt32LittleEndian(footer, Crc32C.Masked(bytes));
        _pending.Write(header);
        _pending.Write(bytes);
        _pending.Write(footer);
    }

    public void Flush()
    {
        if (_pending.Length == 0)
            return;
        _stream.Position = _length;
        _stream.Write(_pending.GetBuffer().AsSpan(0, (int)_pending.Length));
        _length = _stream.Position;
        _pending.SetLength(0);
    }

    public void Dispose() => _stream.Dispose();
}
