using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;

namespace FabricSharp.Collectives.Control;

/// <summary>Frames over a connection: length, kind, content. Any thread may send; one thread receives.</summary>
internal sealed class ControlSocket : IDisposable
{
    private const int HeaderBytes = 5;

    /// <summary>More than any exchange between thousands of ranks needs; a length beyond is not one of ours.</summary>
    private const int MaxContentBytes = 64 * 1024 * 1024;

    private readonly Socket _socket;
    private readonly Lock _sending = new();

    public ControlSocket(Socket socket)
    {
        _socket = socket;
        _socket.NoDelay = true;
        _socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        _socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 15);
        _socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 5);
        _socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 3);
    }

    /// <summary>The limit of one receive; none unless set.</summary>
    public TimeSpan ReceiveLimit
    {
        set => _socket.ReceiveTimeout = (int)value.TotalMilliseconds;
    }

    /// <summary>Sends a frame whose content <paramref name="write"/> makes.</summary>
    /// <exception cref="SocketException">The connection is gone.</exception>
    /// <exception cref="ObjectDisposedException">It was closed here.</exception>
    public void Send(ControlFrame kind, Action<BinaryWriter>? write = null)
    {
        using var buffer = new MemoryStream();
        buffer.SetLength(HeaderBytes);
        buffer.Position = HeaderBytes;
        using var writer = new BinaryWriter(buffer, Encoding.UTF8);
        write?.Invoke(writer);
        writer.Flush();
        var frame = buffer.GetBuffer().AsSpan(0, (int)buffer.Length);
        BinaryPrimitives.WriteInt32LittleEndian(frame, frame.Length - HeaderBytes);
        frame[4] = (byte)kind;
        lock (_sending)
            for (var sent = 0; sent < frame.Length;)
                sent += _socket.Send(frame[sent..]);
    }

    /// <summary>The next frame; null when the other side has closed the connection.</summary>
    /// <exception cref="SocketException">The connection is gone, or the limit has passed.</exception>
    /// <exception cref="InvalidDataException">What came is no frame.</exception>
    public (ControlFrame Kind, BinaryReader Content)? Receive()
    {
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (!Fill(header))
            return null;
        var length = BinaryPrimitives.ReadInt32LittleEndian(header);
        if (length is < 0 or > MaxContentBytes)
            throw new InvalidDataException($"A frame of {length} bytes.");
        var content = new byte[length];
        return Fill(content) ? ((ControlFrame)header[4], new BinaryReader(new MemoryStream(content, writable: false), Encoding.UTF8)) : null;
    }

    public void Dispose() => _socket.Dispose();

    /// <summary>Tells the other side that nothing more comes; what was sent still arrives.</summary>
    public void EndSending()
    {
        try
        {
            _socket.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // closed already
        }
    }

    private bool Fill(Span<byte> bytes)
    {
        for (var filled = 0; filled < bytes.Length;)
        {
            var count = _socket.Receive(bytes[filled..]);
            if (count == 0)
                return false;
            filled += count;
        }

        return true;
    }
}
