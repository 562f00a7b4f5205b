namespace FabricSharp.Collectives.Stores;

/// <summary>
/// A client's connections: one for the requests that are answered at once, under a lock, and others for waits.
/// Requests on the first are handled in the order of the calls, so a thread reads what it has written.
/// </summary>
internal sealed class TcpStoreClient : IDisposable
{
    // What the server may take to answer a request that it never holds back, and what the network may take to carry 8 MiB.
    private static readonly TimeSpan ReplyLimit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan CancelLimit = TimeSpan.FromSeconds(10);

    private readonly string _host;
    private readonly int _port;
    private readonly Lock _gate = new();
    private readonly StoreConnection _requests;
    private readonly WaitConnections _waits;
    // Why the first connection is lost, if it is. Then no call can know any more what the server has done.
    private DistributedException? _failure;
    private volatile bool _disposed;
    // Whether something was told since the last answer: a wait, on its connection, could overtake it.
    private volatile bool _hasUnanswered;

    public TcpStoreClient(string host, int port, TimeSpan timeout)
    {
        _host = host;
        _port = port;
        var connector = new StoreConnector(host, port);
        _requests = connector.Connect(timeout);
        _waits = new WaitConnections(connector);
    }

    /// <summary>Sends a request that has no reply.</summary>
    public void Tell(string operation, StoreRequest request)
    {
        lock (_gate)
        {
            Ask(operation, request, (_, _) => true);
            _hasUnanswered = true;
        }
    }

    /// <summary>Whether the server may not have carried out yet what this client told it.</summary>
    public bool HasUnanswered => _hasUnanswered;

    /// <summary>Sends a request and reads its reply.</summary>
    /// <exception cref="DistributedException">The connection is lost, now or since an earlier call.</exception>
    public T Ask<T>(string operation, StoreRequest request, Func<StoreConnection, Deadline, T> read)
    {
        lock (_gate)
        {
            ThrowIfUnusable();
            try
            {
                var deadline = Deadline.After(ReplyLimit);
                _requests.Send(request, deadline);
                var reply = read(_requests, deadline);
                _hasUnanswered = false;
                return reply;
            }
            catch (Exception e)
            {
                // Whatever it was: the rest of the reply may still come, so the next call would read it as its own.
                ThrowIfUnusable();
                _failure = StoreErrors.ConnectionLost(_host, _port, operation, e, isFinal: true);
                _requests.Dispose();
                throw _failure;
            }
        }
    }

    /// <summary>Waits until the server says that the keys of the WAIT request exist.</summary>
    public WaitOutcome Wait(string operation, StoreRequest request, TimeSpan timeout)
    {
        var deadline = Deadline.After(timeout);
        ThrowIfUnusable();
        var connection = _waits.Rent();
        try
        {
            connection.Send(request, Deadline.After(ReplyLimit));
            var arrived = connection.WaitForReply(deadline) ? ReadArrived(connection) : Cancel(connection);
            _waits.Return(connection);
            return arrived ? WaitOutcome.Arrived : WaitOutcome.TimedOut;
        }
        catch (Exception e)
        {
            _waits.Discard(connection);
            ObjectDisposedException.ThrowIf(_disposed, typeof(TCPStore));
            if (e is TimeoutException)
                return WaitOutcome.Unanswered;
            throw StoreErrors.ConnectionLost(_host, _port, operation, e, isFinal: false);
        }
    }

    public void Dispose()
    {
        // Without the lock: a call that hangs on a dead server is to be ended, not waited for.
        _disposed = true;
        _requests.Dispose();
        _waits.Dispose();
    }

    private static bool ReadArrived(StoreConnection connection)
    {
        var reply = connection.ReadByte(Deadline.After(CancelLimit));
        return reply == StoreProtocol.WaitDone
            ? true
            : throw new InvalidDataException($"The server answered {reply} to WAIT where only {StoreProtocol.WaitDone} is possible.");
    }

    // The server answers each cancellation, also one that crossed its "keys exist": that comes first then, and counts.
    private static bool Cancel(StoreConnection connection)
    {
        var deadline = Deadline.After(CancelLimit);
        connection.Send(new StoreRequest(StoreQuery.CancelWait), deadline);
        var arrived = false;
        while (true)
        {
            switch (connection.ReadByte(deadline))
            {
                case StoreProtocol.WaitCancelled:
                    return arrived;
                case StoreProtocol.WaitDone when !arrived:
                    arrived = true;
                    break;
                case var reply:
                    throw new InvalidDataException($"The server answered {reply} to CANCEL_WAIT where only 0 and 1 are possible.");
            }
        }
    }

    private void ThrowIfUnusable()
    {
        ObjectDisposedException.ThrowIf(_disposed, typeof(TCPStore));
        if (Volatile.Read(ref _failure) is { } failure)
            throw new DistributedException(failure.Message, failure);
    }
}

/// <summary>How a wait for keys ended.</summary>
internal enum WaitOutcome
{
    /// <summary>All keys exist.</summary>
    Arrived,

    /// <summary>They did not in time, and the server confirmed the end of the wait.</summary>
    TimedOut,

    /// <summary>They did not in time, and the server does not answer at all.</summary>
    Unanswered,
}
