using System.Net;
using System.Net.Sockets;

namespace FabricSharp.Collectives.Stores;

/// <summary>Opens connections to a store server and makes sure that it is one.</summary>
internal sealed class StoreConnector(string host, int port)
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1);

    // Bounds a single attempt to an address that drops packets, so that a new one can find the server at another address.
    private static readonly TimeSpan AttemptLimit = TimeSpan.FromSeconds(10);

    /// <summary>Tries until the server answers: it may start later than its clients.</summary>
    /// <exception cref="DistributedTimeoutException">It did not within <paramref name="timeout"/>.</exception>
    /// <exception cref="DistributedException">What answers is not a store.</exception>
    public StoreConnection Connect(TimeSpan timeout)
    {
        var deadline = Deadline.After(timeout);
        var pause = FirstPause;
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                return Open(deadline.Remaining);
            }
            catch (Exception e) when (StoreConnection.IsFailure(e))
            {
                // Spread, so that the ranks of a large job do not all come back at the same moment.
                Pause(pause * (0.5 + Random.Shared.NextDouble()), deadline);
                if (deadline.HasPassed)
                    throw StoreErrors.ConnectTimedOut(host, port, timeout, attempt, e);
            }

            pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
        }
    }

    /// <summary>Opens a further connection to a server that was there: tries once.</summary>
    /// <exception cref="DistributedException">The server is there no more.</exception>
    public StoreConnection ConnectAgain()
    {
        try
        {
            return Open(AttemptLimit);
        }
        catch (Exception e) when (StoreConnection.IsFailure(e))
        {
            throw StoreErrors.ConnectFailed(host, port, e);
        }
    }

    private static void Pause(TimeSpan pause, Deadline deadline) =>
        Task.Delay(pause < deadline.Remaining ? pause : deadline.Remaining).Wait();

    private StoreConnection Open(TimeSpan limit)
    {
        limit = limit < AttemptLimit ? limit : AttemptLimit;
        var deadline = Deadline.After(limit);
        var connection = new StoreConnection(OpenSocketAsync(limit).GetAwaiter().GetResult());
        try
        {
            ShakeHands(connection, deadline);
            return connection;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    private async Task<Socket> OpenSocketAsync(TimeSpan limit)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            using var stop = new CancellationTokenSource(limit);
            await socket.ConnectAsync(new DnsEndPoint(host, port), stop.Token).ConfigureAwait(false);
            // A host that vanishes without a word is noticed some time, however long the wait.
            socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
            return socket;
        }
        catch (OperationCanceledException)
        {
            socket.Dispose();
            throw new TimeoutException("No answer to the connection request.");
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private void ShakeHands(StoreConnection connection, Deadline deadline)
    {
        var nonce = (uint)Environment.ProcessId;
        connection.Send(StoreRequest.Handshake(nonce), deadline);
        var answer = connection.ReadUInt32(deadline);
        if (answer != nonce)
            throw StoreErrors.NotAStore(host, port, nonce, answer);
    }
}
