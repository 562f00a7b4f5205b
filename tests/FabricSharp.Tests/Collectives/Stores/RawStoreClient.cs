using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;

namespace FabricSharp.Tests.Collectives.Stores;

/// <summary>Bytes to and from a store server, nothing else.</summary>
internal sealed class RawStoreClient : IDisposable
{
    private readonly Socket _socket = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true, ReceiveTimeout = 20_000, SendTimeout = 20_000 };

    public RawStoreClient(int port, bool shakeHands = true)
    {
        _socket.Connect("127.0.0.1", port);
        if (!shakeHands)
            return;
        Send(Bytes("00 CE F7 85 3C 0D 2A 00 00 00"));
        Expect(Bytes("2A 00 00 00"));
    }

    /// <summary>From hexadecimal digits.</summary>
    public static byte[] Bytes(string hex) => Convert.FromHexString(hex.Replace(" ", ""));

    /// <summary>A 64-bit length and the characters of <paramref name="text"/>, one byte each.</summary>
    public static byte[] Item(string text) => [.. Number(text.Length), .. Encoding.Latin1.GetBytes(text)];

    public static byte[] Number(long value)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        return bytes;
    }

    public void Send(params byte[][] parts) => _socket.Send(parts.SelectMany(part => part).ToArray());

    /// <summary>Sends one byte at a time.</summary>
    public void Dribble(params byte[][] parts)
    {
        foreach (var b in parts.SelectMany(part => part))
            _socket.Send([b]);
    }

    public void Expect(params byte[][] parts)
    {
        var expected = parts.SelectMany(part => part).ToArray();
        var actual = new byte[expected.Length];
        for (var filled = 0; filled < actual.Length;)
        {
            var count = _socket.Receive(actual.AsSpan(filled));
            Assert.True(count > 0, $"The server closed the connection after {filled} of {expected.Length} bytes.");
            filled += count;
        }

        Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(actual));
    }

    /// <summary>Whether the server ends the connection without another byte.</summary>
    public void ExpectEnd()
    {
        try
        {
            Assert.Equal(0, _socket.Receive(new byte[16]));
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.ConnectionReset or SocketError.ConnectionAborted)
        {
            // an end, too
        }
    }

    /// <summary>Whether nothing has come.</summary>
    public void ExpectSilence() => Assert.False(_socket.Poll(TimeSpan.FromMilliseconds(20), SelectMode.SelectRead));

    public void Dispose() => _socket.Dispose();
}
