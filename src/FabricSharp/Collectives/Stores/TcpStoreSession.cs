using System.Net.Sockets;

namespace FabricSharp.Collectives.Stores;

/// <summary>
/// One client of the server. A single task reads its requests, acts on the table and writes the replies, so that they keep the
/// order and a client that does not read its replies holds up itself only.
/// </summary>
internal sealed partial class TcpStoreSession
{
    private readonly Socket _socket;
    private readonly KeyValueTable _table;
    private readonly StoreLimits _limits;
    private readonly CancellationToken _stop;
    private readonly StoreWireReader _reader;
    private readonly StoreWireWriter _writer;
    // The read of the next request's first byte, if it was begun while the client waited for keys.
    private Task<int>? _nextQuery;

    public TcpStoreSession(Socket socket, KeyValueTable table, StoreLimits limits, CancellationToken stop)
    {
        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        _socket = socket;
        _table = table;
        _limits = limits;
        _stop = stop;
        _reader = new StoreWireReader(socket);
        _writer = new StoreWireWriter(socket);
    }

    public void Close() => _socket.Dispose();

    /// <summary>Serves until the client leaves, breaks the protocol, or the server stops; these ends are not errors of the server.</summary>
    public async Task RunAsync()
    {
        try
        {
            await ValidateAsync().ConfigureAwait(false);
            while (await ReadQueryAsync().ConfigureAwait(false) is var query and >= 0)
            {
                await HandleAsync((StoreQuery)query).ConfigureAwait(false);
                await _writer.FlushAsync(_stop).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is StoreProtocolException or FormatException or OverflowException
            or IOException or SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // Whatever it was, the answer is the same as PyTorch's server gives: the connection is closed.
        }
    }

    // Nothing is kept for a connection that has not shown that it speaks the protocol, and it does not stay.
    private async Task ValidateAsync()
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(_stop);
        limit.CancelAfter(_limits.Handshake);
        if (await _reader.TryReadByteAsync(limit.Token).ConfigureAwait(false) != (int)StoreQuery.Validate
            || await _reader.ReadUInt32Async(limit.Token).ConfigureAwait(false) != StoreProtocol.Magic)
            throw new StoreProtocolException("The connection does not begin with a valid VALIDATE.");
    }

    private async ValueTask<int> ReadQueryAsync()
    {
        if (Interlocked.Exchange(ref _nextQuery, null) is { } begun)
            return await begun.ConfigureAwait(false);

        return await _reader.TryReadByteAsync(_stop).ConfigureAwait(false);
    }

    private async Task WaitAsync()
    {
        var waiter = _table.StartWaiting(await ReadKeysAsync().ConfigureAwait(false));
        try
        {
            if (waiter.Done.IsCompletedSuccessfully)
                _writer.WriteByte(StoreProtocol.WaitDone);
            else
                await WaitOrCancelAsync(waiter).ConfigureAwait(false);
        }
        finally
        {
            _table.StopWaiting(waiter);
        }
    }

    private async Task WaitOrCancelAsync(KeyWaiter waiter)
    {
        var query = _reader.TryReadByteAsync(_stop).AsTask();
        if (await Task.WhenAny(waiter.Done, query).ConfigureAwait(false) == waiter.Done)
        {
            _nextQuery = query;
            await waiter.Done.ConfigureAwait(false);
            _writer.WriteByte(StoreProtocol.WaitDone);
            return;
        }

        var next = await query.ConfigureAwait(false);
        if (next != (int)StoreQuery.CancelWait)
            throw new StoreProtocolException($"Only CANCEL_WAIT may be sent during a wait; got {next}.");

        // Taken out of the table first: from here on it is settled whether the keys came before the cancellation.
        _table.StopWaiting(waiter);
        if (waiter.Done.IsCompletedSuccessfully)
            _writer.WriteByte(StoreProtocol.WaitDone);
        _writer.WriteByte(StoreProtocol.WaitCancelled);
    }
}
