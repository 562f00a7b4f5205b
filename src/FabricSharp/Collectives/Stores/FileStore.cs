using FabricSharp.Collectives.Stores;

namespace FabricSharp.Collectives;

/// <summary>
/// A store in a file that all ranks can write, on one machine or on a shared disk: no port, no server, and no rank that the others depend on. The file has the layout of PyTorch's
/// <c>torch.distributed.FileStore</c>: records that are only ever appended.
/// </summary>
/// <remarks>
/// Thread-safe; every member is local. A change is one write under an exclusive lock of the file: a user that is killed in the middle of it leaves a torn record at the end, which the others
/// never see and the next change removes. The last user deletes the file; users of this machine that ended without disposing theirs are noticed then, and a file whose users are all gone
/// is begun anew by the next one. Waits look at the file every few milliseconds. Keys may have 8,191 bytes of UTF-8, values 8 MiB (appended ones, too), the file 1 GiB. The lock is that of
/// the file system (<c>flock</c>); some network file systems have none.
/// </remarks>
public sealed class FileStore : Store
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan LongestPause = TimeSpan.FromMilliseconds(20);

    private readonly Lock _gate = new();
    private readonly FileStoreLog _log;
    private readonly FileStoreUser _user;
    private volatile bool _disposed;

    /// <summary>Opens the store at <paramref name="path"/>, which is made if it is not there.</summary>
    /// <param name="path">A file that all ranks can read and write; its folder must exist.</param>
    /// <param name="worldSize">How many users there will be: the file is kept until so many have left. <value>Default: whoever leaves as the last one deletes it.</value></param>
    /// <param name="timeout">First value of <see cref="Store.Timeout"/>. <value>Default 300 seconds.</value></param>
    /// <exception cref="ArgumentException">An empty path or an impossible size or time-out.</exception>
    /// <exception cref="DistributedException">The file cannot be written or is no store.</exception>
    public FileStore(string path, int? worldSize = null, TimeSpan? timeout = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        if (worldSize <= 0)
            throw new ArgumentOutOfRangeException(nameof(worldSize), worldSize, $"A world has at least one user; got {worldSize}.");
        StoreArguments.CheckTimeout(timeout ?? Timeout, nameof(timeout));
        Timeout = timeout ?? Timeout;
        Path = System.IO.Path.GetFullPath(path);
        _log = new FileStoreLog(Path);
        _user = FileStoreUser.Enter(_log, worldSize);
    }

    /// <summary>The full path of the file.</summary>
    public string Path { get; }

    /// <inheritdoc/>
    public override long Count => Read(log => log.Count);

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The key or the value is too long.</exception>
    public override void Set(string key, ReadOnlySpan<byte> value)
    {
        var (name, bytes) = (FileStoreKey.Of(key), value.ToArray());
        Change(change => change.Set(name, bytes));
    }

    /// <inheritdoc/>
    public override byte[] Get(string key, TimeSpan timeout) => MultiGet([key], timeout)[0];

    /// <inheritdoc/>
    /// <exception cref="DistributedException">The present value is not a number, or the sum does not fit 64 bits.</exception>
    public override long Add(string key, long amount)
    {
        var name = FileStoreKey.Of(key);
        try
        {
            return Change(change => change.Add(name, amount));
        }
        catch (Exception e) when (e is FormatException or OverflowException)
        {
            throw StoreErrors.NotACounter(key, Convert.ToHexString(Read(log => log.Find(name)) ?? []), e);
        }
    }

    /// <inheritdoc/>
    public override void Wait(IReadOnlyList<string> keys, TimeSpan timeout) => MultiGet(keys, timeout);

    /// <inheritdoc/>
    public override bool Check(IReadOnlyList<string> keys)
    {
        var names = Names(keys);
        return Read(log => names.All(log.Contains));
    }

    /// <inheritdoc/>
    public override byte[] CompareSet(string key, ReadOnlySpan<byte> expected, ReadOnlySpan<byte> desired)
    {
        var (name, old, new_) = (FileStoreKey.Of(key), expected.ToArray(), desired.ToArray());
        return Change(change =>
        {
            var current = change.Find(name);
            if (current is null ? old.Length > 0 : !current.AsSpan().SequenceEqual(old))
                return current is null ? old : (byte[])current.Clone();
            change.Set(name, new_);
            return (byte[])new_.Clone();
        });
    }

    /// <inheritdoc/>
    public override bool Delete(string key)
    {
        var name = FileStoreKey.Of(key);
        return Change(change => change.Delete(name));
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The whole value would be too long.</exception>
    public override void Append(string key, ReadOnlySpan<byte> value)
    {
        var (name, more) = (FileStoreKey.Of(key), value.ToArray());
        Change(change => change.Set(name, [.. change.Find(name) ?? [], .. more]));
    }

    /// <inheritdoc/>
    public override IReadOnlyList<byte[]> MultiGet(IReadOnlyList<string> keys, TimeSpan timeout)
    {
        var names = Names(keys);
        StoreArguments.CheckTimeout(timeout);
        var deadline = Deadline.After(timeout);
        for (var pause = FirstPause; ; pause = pause * 2 < LongestPause ? pause * 2 : LongestPause)
        {
            var isLast = deadline.HasPassed; // before the look: what came by the deadline counts
            if (Read(log => names.All(log.Contains) ? names.Select(name => (byte[])log.Find(name)!.Clone()).ToArray() : null) is { } values)
                return values;
            if (isLast)
                throw StoreErrors.WaitTimedOut(timeout, keys, Read(log => keys.Where((_, i) => !log.Contains(names[i])).ToArray()), ToString());
            Task.Delay(pause < deadline.Remaining ? pause : deadline.Remaining).Wait();
        }
    }

    /// <inheritdoc/>
    public override void MultiSet(IReadOnlyList<string> keys, IReadOnlyList<byte[]> values)
    {
        StoreArguments.CheckPairs(keys, values);
        var names = Names(keys);
        Change(change =>
        {
            for (var i = 0; i < names.Length; i++)
                change.Set(names[i], (byte[])values[i].Clone());
        });
    }

    /// <summary>The path, as <c>FileStore(path)</c>.</summary>
    public override string ToString() => $"FileStore({Path})";

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        lock (_gate)
        {
            if (_disposed)
                return;
            _disposed = true;
            _user.Leave(_log);
        }
    }

    private static string[] Names(IReadOnlyList<string> keys)
    {
        StoreArguments.CheckKeys(keys);
        return [.. keys.Select(FileStoreKey.Of)];
    }

    private T Read<T>(Func<FileStoreLog, T> look)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            _log.Refresh();
            return look(_log);
        }
    }

    private void Change(Action<FileStoreChange> action) => Change(change =>
    {
        action(change);
        return true;
    });

    private T Change<T>(Func<FileStoreChange, T> action)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _log.Change(action);
        }
    }
}
