namespace FabricSharp.Collectives.Stores;

/// <summary>
/// The connections on which a client's threads wait for keys. A wait takes its connection for as long as it lasts; with the
/// other requests on a connection of their own, a waiting thread does not hold up the others.
/// </summary>
internal sealed class WaitConnections(StoreConnector connector) : IDisposable
{
    // More stay open only while they are waited on.
    private const int KeptIdle = 2;

    private readonly Lock _gate = new();
    private readonly Stack<StoreConnection> _idle = [];
    private readonly HashSet<StoreConnection> _busy = [];
    private bool _disposed;

    public StoreConnection Rent()
    {
        lock (_gate)
        {
            if (_idle.TryPop(out var idle))
            {
                _busy.Add(idle);
                return idle;
            }
        }

        var opened = connector.ConnectAgain();
        lock (_gate)
        {
            if (!_disposed)
            {
                _busy.Add(opened);
                return opened;
            }
        }

        opened.Dispose();
        throw new ObjectDisposedException(nameof(TCPStore));
    }

    /// <summary>Gives a connection back on which no reply is outstanding.</summary>
    public void Return(StoreConnection connection)
    {
        lock (_gate)
        {
            _busy.Remove(connection);
            if (!_disposed && _idle.Count < KeptIdle)
            {
                _idle.Push(connection);
                return;
            }
        }

        connection.Dispose();
    }

    /// <summary>Closes a connection that failed.</summary>
    public void Discard(StoreConnection connection)
    {
        lock (_gate)
            _busy.Remove(connection);
        connection.Dispose();
    }

    /// <summary>Closes all; threads that wait on one get its failure.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _disposed = true;
            foreach (var connection in _idle.Concat(_busy))
                connection.Dispose();
            _idle.Clear();
        }
    }
}
