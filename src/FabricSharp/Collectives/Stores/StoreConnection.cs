using System.Buffers.Binary;
using System.Net.Sockets;

namespace FabricSharp.Collectives.Stores;

/// <summary>
/// One connection of a client, used by one thread at a time. Failures come as <see cref="IOException"/>,
/// <see cref="SocketException"/>, <see cref="TimeoutException"/> or <see cref="ObjectDisposedException"/>; after one of them the
/// connection is of no use, because it is not known how far the server is.
/// </summary>
internal sealed class StoreConnection(Socket socket) : IDisposable
{
    private const int FirstChunk = 64 * 1024;

    // A server may return more than it takes in one request (appended values), but not without any bound.
    private const int MaxReplyBytes = 1 << 30;

    // The longest that a single poll of the system can take is half an hour.
    private static readonly TimeSpan PollSlice = TimeSpan.FromMinutes(10);

    private readonly byte[] _scratch = new byte[sizeof(long)];

    /// <summary>Whether a failure comes from the connection and not from a fault of the program.</summary>
    public static bool IsFailure(Exception e) =>
        e is IOException or SocketException or TimeoutException or ObjectDisposedException or InvalidDataException;

    public void Send(StoreRequest request, Deadline deadline)
    {
        for (var bytes = request.Bytes; bytes.Length > 0;)
        {
            socket.SendTimeout = (int)Math.Max(1, deadline.Remaining.TotalMilliseconds);
            bytes = bytes[socket.Send(bytes)..];
        }
    }

    /// <summary>Waits until there is something to read (or the connection has ended).</summary>
    /// <returns>False when the deadline passed first; the connection stays usable.</returns>
    public bool WaitForReply(Deadline deadline)
    {
        do
        {
            var left = deadline.Remaining;
            if (socket.Poll(left < PollSlice ? left : PollSlice, SelectMode.SelectRead))
                return true;
        }
        while (!deadline.HasPassed);

        return false;
    }

    public byte ReadByte(Deadline deadline) => Read(sizeof(byte), deadline)[0];

    public uint ReadUInt32(Deadline deadline) => BinaryPrimitives.ReadUInt32LittleEndian(Read(sizeof(uint), deadline));

    public long ReadInt64(Deadline deadline) => BinaryPrimitives.ReadInt64LittleEndian(Read(sizeof(long), deadline));

    public byte[] ReadValue(Deadline deadline)
    {
        var length = ReadInt64(deadline);
        if (length is < 0 or > MaxReplyBytes)
            throw new InvalidDataException($"The server announced a value of {(ulong)length} bytes; at most {MaxReplyBytes} are possible.");

        // A length says what will come, not what has come: memory is taken as the bytes arrive.
        var value = new byte[Math.Min(length, FirstChunk)];
        for (var filled = 0; filled < length; filled = value.Length)
        {
            if (filled > 0)
                Array.Resize(ref value, (int)Math.Min(length, 2L * filled));
            Fill(value.AsSpan(filled), deadline);
        }

        return value;
    }

    /// <summary>Ends the connection; a thread that waits on it gets its failure at once.</summary>
    public void Dispose()
    {
        try
        {
            socket.Shutdown(SocketShutdown.Both);
        }
        catch (Exception e) when (IsFailure(e))
        {
            // It has ended already.
        }

        socket.Dispose();
    }

    private ReadOnlySpan<byte> Read(int count, Deadline deadline)
    {
        Fill(_scratch.AsSpan(0, count), deadline);
        return _scratch;
    }

    private void Fill(Span<byte> target, Deadline deadline)
    {
        while (target.Length > 0)
        {
            if (!WaitForReply(deadline))
                throw new TimeoutException("The server did not answer in time.");

            var count = socket.Receive(target);
            target = count > 0 ? target[count..] : throw new EndOfStreamException("The server closed the connection.");
        }
    }
}
