using System.Buffers;
using System.Buffers.Binary;
using System.Net.Sockets;

namespace FabricSharp.Collectives.Stores;

/// <summary>Writes replies to a client's socket: small ones gathered into one send, large values as they are.</summary>
internal sealed class StoreWireWriter(Socket socket)
{
    private const int GatheredBytes = 16 * 1024;

    private readonly ArrayBufferWriter<byte> _pending = new();

    public void WriteByte(byte value) => _pending.Write([value]);

    public void WriteUInt32(uint value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_pending.GetSpan(sizeof(uint)), value);
        _pending.Advance(sizeof(uint));
    }

    public void WriteInt64(long value)
    {
        BinaryPrimitives.WriteInt64LittleEndian(_pending.GetSpan(sizeof(long)), value);
        _pending.Advance(sizeof(long));
    }

    /// <summary>Writes the length and the bytes. Sends when much has gathered, so that a long list of values never does.</summary>
    public async ValueTask WriteBytesAsync(byte[] value, CancellationToken stop)
    {
        WriteInt64(value.Length);
        if (value.Length <= GatheredBytes)
            _pending.Write(value);
        if (value.Length > GatheredBytes || _pending.WrittenCount > GatheredBytes)
            await FlushAsync(stop).ConfigureAwait(false);
        if (value.Length > GatheredBytes)
            await SendAsync(value, stop).ConfigureAwait(false);
    }

    public async ValueTask FlushAsync(CancellationToken stop)
    {
        if (_pending.WrittenCount == 0)
            return;

        await SendAsync(_pending.WrittenMemory, stop).ConfigureAwait(false);
        _pending.ResetWrittenCount();
    }

    private async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken stop)
    {
        while (bytes.Length > 0)
            bytes = bytes[await socket.SendAsync(bytes, stop).ConfigureAwait(false)..];
    }
}
