using FabricSharp.Collectives.Stores;

namespace FabricSharp.Collectives;

/// <summary>
/// The store that the ranks of a job meet in over the network: one process serves, all connect. Speaks the protocol of PyTorch's
/// <c>torch.distributed.TCPStore</c>, so either side may be a Python process, for instance <c>torchrun</c>.
/// </summary>
/// <remarks>
/// Thread-safe; every member is local. A thread that waits for a key does not hold up the others. When the serving process ends,
/// calls and waits of the others fail at once with a <see cref="DistributedException"/>; a store whose connection is lost stays
/// unusable, because nobody knows which of its requests were carried out. Keys may have 8,191 bytes of UTF-8, values 8 MiB, lists
/// 131,072 keys. There is neither encryption nor authentication: use it in networks that you trust.
/// </remarks>
public sealed partial class TCPStore : Store
{
    private readonly TcpStoreServer? _server;
    private readonly TcpStoreClient _client;

    /// <summary>Connects to the store at <paramref name="host"/>, and serves it first if <paramref name="isServer"/>.</summary>
    /// <param name="host">Name or address of the serving machine, also for the serving process itself.</param>
    /// <param name="port">Its port; the server may ask for 0 and finds a free one in <see cref="Port"/>.</param>
    /// <param name="isServer">Whether this process serves the store, on all addresses of the machine, until disposed.</param>
    /// <param name="worldSize">How many processes will connect, this one included; only for <paramref name="waitForWorkers"/>.</param>
    /// <param name="timeout">Limit for connecting (tries are repeated until then) and first value of <see cref="Store.Timeout"/>. Default 300 seconds.</param>
    /// <param name="waitForWorkers">Whether the serving process waits until <paramref name="worldSize"/> processes have connected. Others never wait.</param>
    /// <exception cref="ArgumentException">A value is impossible: an empty host, a port outside 0 to 65535, port 0 for a client.</exception>
    /// <exception cref="DistributedTimeoutException">The server could not be reached, or processes were missing, within the time-out.</exception>
    /// <exception cref="DistributedException">The port cannot be served, or what answers there is not a store.</exception>
    public TCPStore(
        string host, int port, bool isServer = false, int? worldSize = null, TimeSpan? timeout = null, bool waitForWorkers = false)
    {
        CheckArguments(host, port, isServer, worldSize);
        StoreArguments.CheckTimeout(timeout ?? Timeout, nameof(timeout));
        Timeout = timeout ?? Timeout;
        Host = host;
        _server = isServer ? new TcpStoreServer(port) : null;
        Port = _server?.Port ?? port;
        try
        {
            _client = new TcpStoreClient(host, Port, Timeout);
            AddRaw(StoreProtocol.JoinedKey, 1);
            if (isServer && waitForWorkers && worldSize is { } size)
                WaitForWorkers(size);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The host that was given.</summary>
    public string Host { get; }

    /// <summary>The port that the server listens on; the real one when 0 was asked for.</summary>
    public int Port { get; }

    /// <inheritdoc/>
    public override long Count => _client.Ask(
        "GETNUMKEYS", new StoreRequest(StoreQuery.GetNumKeys), static (connection, limit) => connection.ReadInt64(limit));

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The key or the value is too long.</exception>
    public override void Set(string key, ReadOnlySpan<byte> value) =>
        _client.Tell($"SET of '{key}'", new StoreRequest(StoreQuery.Set).Key(Wire(key)).Value(value));

    /// <inheritdoc/>
    public override byte[] Get(string key, TimeSpan timeout)
    {
        Wait([key], timeout);
        return _client.Ask(
            $"GET of '{key}'",
            new StoreRequest(StoreQuery.Get).Key(Wire(key)),
            static (connection, limit) => connection.ReadValue(limit));
    }

    /// <inheritdoc/>
    /// <exception cref="DistributedException">
    /// The connection is lost; the server ends it also when the present value is not a number or the sum does not fit 64 bits.
    /// </exception>
    public override long Add(string key, long amount) => AddRaw(Wire(key), amount);

    /// <inheritdoc/>
    public override bool Check(IReadOnlyList<string> keys)
    {
        StoreArguments.CheckKeys(keys);
        return CheckRaw([.. keys.Select(Wire)]);
    }

    /// <inheritdoc/>
    public override byte[] CompareSet(string key, ReadOnlySpan<byte> expected, ReadOnlySpan<byte> desired) =>
        _client.Ask(
            $"COMPARE_SET of '{key}'",
            new StoreRequest(StoreQuery.CompareSet).Key(Wire(key)).Value(expected).Value(desired),
            static (connection, limit) => connection.ReadValue(limit));

    /// <inheritdoc/>
    public override bool Delete(string key) =>
        _client.Ask(
            $"DELETE_KEY of '{key}'",
            new StoreRequest(StoreQuery.DeleteKey).Key(Wire(key)),
            static (connection, limit) => connection.ReadInt64(limit)) == 1;

    /// <inheritdoc/>
    public override void Append(string key, ReadOnlySpan<byte> value) =>
        _client.Tell($"APPEND to '{key}'", new StoreRequest(StoreQuery.Append).Key(Wire(key)).Value(value));

    /// <inheritdoc/>
    public override IReadOnlyList<byte[]> MultiGet(IReadOnlyList<string> keys, TimeSpan timeout)
    {
        Wait(keys, timeout);
        return _client.Ask(
            $"MULTI_GET of {keys.Count} keys",
            new StoreRequest(StoreQuery.MultiGet).Keys([.. keys.Select(Wire)]),
            (connection, limit) => keys.Select(_ => connection.ReadValue(limit)).ToArray());
    }

    /// <inheritdoc/>
    public override void MultiSet(IReadOnlyList<string> keys, IReadOnlyList<byte[]> values)
    {
        StoreArguments.CheckPairs(keys, values);
        _client.Tell(
            $"MULTI_SET of {keys.Count} keys",
            new StoreRequest(StoreQuery.MultiSet).Pairs([.. keys.Select(Wire)], values));
    }

    /// <summary>The address, as <c>TCPStore(host:port)</c>.</summary>
    public override string ToString() => $"TCPStore({Host}:{Port})";

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _client?.Dispose();
        _server?.Dispose();
    }

    private static void CheckArguments(string host, int port, bool isServer, int? worldSize)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(host);
        if (port is < 0 or > 65535)
            throw new ArgumentOutOfRangeException(nameof(port), port, $"A port is between 0 and 65535; got {port}.");
        if (port == 0 && !isServer)
            throw new ArgumentException("Only the serving process may ask for port 0 (any free one); a client needs the server's port.", nameof(port));
        if (worldSize <= 0)
            throw new ArgumentOutOfRangeException(nameof(worldSize), worldSize, $"A world has at least one process; got {worldSize}.");
    }

    private static string Wire(string key)
    {
        ArgumentNullException.ThrowIfNull(key);
        return StoreProtocol.KeyPrefix + key;
    }

    private long AddRaw(string wireKey, long amount) =>
        _client.Ask(
            $"ADD to '{wireKey}'",
            new StoreRequest(StoreQuery.Add).Key(wireKey).Int64(amount),
            static (connection, limit) => connection.ReadInt64(limit));

    private bool CheckRaw(IReadOnlyList<string> wireKeys) =>
        _client.Ask(
            $"CHECK of {wireKeys.Count} keys",
            new StoreRequest(StoreQuery.Check).Keys(wireKeys),
            static (connection, limit) => connection.ReadByte(limit)) == StoreProtocol.CheckReady;
}
