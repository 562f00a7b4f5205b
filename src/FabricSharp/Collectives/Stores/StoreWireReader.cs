using System.Buffers.Binary;
using System.Net.Sockets;

namespace FabricSharp.Collectives.Stores;

/// <summary>Reads the fields of requests from a client's socket. For one reader at a time.</summary>
internal sealed class StoreWireReader(Socket socket)
{
    // A length says what will come, not what has come: memory is taken as the bytes arrive.
    private const int FirstChunk = 64 * 1024;

    private readonly byte[] _buffer = new byte[4096];
    private int _start;
    private int _end;

    /// <returns>The byte, or -1 when the client has ended the connection.</returns>
    public async ValueTask<int> TryReadByteAsync(CancellationToken stop) =>
        _start < _end || await FillAsync(stop).ConfigureAwait(false) ? _buffer[_start++] : -1;

    public async ValueTask<uint> ReadUInt32Async(CancellationToken stop)
    {
        await EnsureAsync(sizeof(uint), stop).ConfigureAwait(false);
        _start += sizeof(uint);
        return BinaryPrimitives.ReadUInt32LittleEndian(_buffer.AsSpan(_start - sizeof(uint)));
    }

    public async ValueTask<long> ReadInt64Async(CancellationToken stop)
    {
        await EnsureAsync(sizeof(long), stop).ConfigureAwait(false);
        _start += sizeof(long);
        return BinaryPrimitives.ReadInt64LittleEndian(_buffer.AsSpan(_start - sizeof(long)));
    }

    /// <summary>Reads a length or a count; negative ones are, unsigned, too large as well.</summary>
    public async ValueTask<int> ReadLengthAsync(int limit, CancellationToken stop)
    {
        var length = (ulong)await ReadInt64Async(stop).ConfigureAwait(false);
        return length <= (ulong)limit ? (int)length : throw new StoreProtocolException($"A length of {length} exceeds {limit}.");
    }

    public async ValueTask<byte[]> ReadBytesAsync(int limit, CancellationToken stop)
    {
        var length = await ReadLengthAsync(limit, stop).ConfigureAwait(false);
        var bytes = new byte[Math.Min(length, FirstChunk)];
        for (var filled = 0; filled < length; filled = bytes.Length)
        {
            if (filled > 0)
                Array.Resize(ref bytes, (int)Math.Min(length, 2L * filled));
            await ReadExactlyAsync(bytes.AsMemory(filled), stop).ConfigureAwait(false);
        }

        return bytes;
    }

    private async ValueTask ReadExactlyAsync(Memory<byte> target, CancellationToken stop)
    {
        var buffered = Math.Min(target.Length, _end - _start);
        _buffer.AsSpan(_start, buffered).CopyTo(target.Span);
        _start += buffered;
        for (target = target[buffered..]; target.Length > 0;)
        {
            var count = await socket.ReceiveAsync(target, stop).ConfigureAwait(false);
            target = count > 0 ? target[count..] : throw new EndOfStreamException();
        }
    }

    private async ValueTask EnsureAsync(int count, CancellationToken stop)
    {
        while (_end - _start < count)
        {
            if (!await FillAsync(stop).ConfigureAwait(false))
                throw new EndOfStreamException();
        }
    }

    private async ValueTask<bool> FillAsync(CancellationToken stop)
    {
        _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
        (_start, _end) = (0, _end - _start);
        var count = await socket.ReceiveAsync(_buffer.AsMemory(_end), stop).ConfigureAwait(false);
        _end += count;
        return count > 0;
    }
}
