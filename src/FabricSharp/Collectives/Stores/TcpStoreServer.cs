using System.Net;
using System.Net.Sockets;

namespace FabricSharp.Collectives.Stores;

/// <summary>
/// The serving side of <see cref="TCPStore"/>: listens on all addresses of the machine and answers any number of clients, also
/// PyTorch's. Clients meet only in the table's lock; a slow or faulty one holds up or harms nobody else.
/// </summary>
internal sealed class TcpStoreServer : IDisposable
{
    private static readonly TimeSpan DisposeLimit = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan AcceptPause = TimeSpan.FromMilliseconds(50);

    private readonly StoreLimits _limits;
    private readonly KeyValueTable _table;
    private readonly Socket _listener;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _gate = new();
    // The connections that live, with the tasks that serve them.
    private readonly Dictionary<TcpStoreSession, Task> _sessions = [];
    private readonly Task _accepting;
    private int _disposed;

    /// <summary>Listens on <paramref name="port"/>, or on a free port if it is 0.</summary>
    /// <exception cref="DistributedException">The port cannot be listened on.</exception>
    public TcpStoreServer(int port, StoreLimits? limits = null)
    {
        _limits = limits ?? StoreLimits.Default;
        _table = new KeyValueTable(_limits.StoredBytes);
        _listener = Listen(port);
        Port = ((IPEndPoint)_listener.LocalEndPoint!).Port;
        _accepting = Task.Run(AcceptAsync);
    }

    public int Port { get; }

    /// <summary>How many connections are open.</summary>
    public int SessionCount
    {
        get
        {
            lock (_gate)
                return _sessions.Count;
        }
    }

    /// <summary>Closes all connections; what clients wait for ends with an error on their side.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;

        _stop.Cancel();
        _listener.Dispose();
        KeyValuePair<TcpStoreSession, Task>[] sessions;
        lock (_gate)
            sessions = [.. _sessions];
        foreach (var (session, _) in sessions)
            session.Close();
        Task.WaitAny([Task.WhenAll([_accepting, .. sessions.Select(pair => pair.Value)])], DisposeLimit);
        _table.Close();
    }

    private static Socket Listen(int port)
    {
        try
        {
            return ListenOn(AddressFamily.InterNetworkV6, port) ?? ListenOn(AddressFamily.InterNetwork, port)
                ?? throw new SocketException((int)SocketError.AddressFamilyNotSupported);
        }
        catch (SocketException e)
        {
            throw StoreErrors.ListenFailed(port, e);
        }
    }

    /// <returns>Null where the machine has no such addresses.</returns>
    private static Socket? ListenOn(AddressFamily family, int port)
    {
        Socket? socket = null;
        try
        {
            socket = new Socket(family, SocketType.Stream, ProtocolType.Tcp);
            if (family == AddressFamily.InterNetworkV6)
                socket.DualMode = true;
            socket.Bind(new IPEndPoint(family == AddressFamily.InterNetworkV6 ? IPAddress.IPv6Any : IPAddress.Any, port));
            socket.Listen();
            return socket;
        }
        catch (SocketException e)
        {
            socket?.Dispose();
            if (e.SocketErrorCode is SocketError.AddressFamilyNotSupported or SocketError.AddressNotAvailable
                or SocketError.ProtocolNotSupported or SocketError.OperationNotSupported)
                return null;
            throw;
        }
    }

    private async Task AcceptAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                Start(await _listener.AcceptAsync(_stop.Token).ConfigureAwait(false));
            }
            catch (SocketException) when (!_stop.IsCancellationRequested)
            {
                // Out of file descriptors, or the client has gone already. Those that are connected must not lose the store for it.
                await Task.Delay(AcceptPause, CancellationToken.None).ConfigureAwait(false);
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException or SocketException)
            {
                return;
            }
        }
    }

    private void Start(Socket socket)
    {
        TcpStoreSession session;
        try
        {
            session = new TcpStoreSession(socket, _table, _limits, _stop.Token);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            socket.Dispose();
            return;
        }

        lock (_gate)
        {
            if (_stop.IsCancellationRequested)
                session.Close();
            else
                _sessions[session] = Task.Run(() => ServeAsync(session));
        }
    }

    private async Task ServeAsync(TcpStoreSession session)
    {
        try
        {
            await session.RunAsync().ConfigureAwait(false);
        }
        finally
        {
            session.Close();
            lock (_gate)
                _sessions.Remove(session);
        }
    }
}
