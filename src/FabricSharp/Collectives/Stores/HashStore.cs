using FabricSharp.Collectives.Stores;

namespace FabricSharp.Collectives;

/// <summary>
/// A store within one process: for a world of one rank, for ranks that are threads, and for tests. Thread-safe; every member is
/// local. Keys and values have no limits but memory.
/// </summary>
public sealed class HashStore : Store
{
    private readonly KeyValueTable _table = new();
    private volatile bool _disposed;

    /// <inheritdoc/>
    public override long Count => Table.Count;

    private KeyValueTable Table
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _table;
        }
    }

    /// <inheritdoc/>
    public override void Set(string key, ReadOnlySpan<byte> value)
    {
        ArgumentNullException.ThrowIfNull(key);
        Table.Set(key, value.ToArray());
    }

    /// <inheritdoc/>
    public override byte[] Get(string key, TimeSpan timeout)
    {
        Wait([key], timeout);
        return CopyOf(Table.Find(key));
    }

    /// <inheritdoc/>
    /// <exception cref="DistributedException">The present value is not a number, or the sum does not fit 64 bits.</exception>
    public override long Add(string key, long amount)
    {
        ArgumentNullException.ThrowIfNull(key);
        try
        {
            return Table.Add(key, amount);
        }
        catch (Exception e) when (e is FormatException or OverflowException)
        {
            throw StoreErrors.NotACounter(key, Convert.ToHexString(_table.Find(key) ?? []), e);
        }
    }

    /// <inheritdoc/>
    public override void Wait(IReadOnlyList<string> keys, TimeSpan timeout)
    {
        StoreArguments.CheckKeys(keys);
        StoreArguments.CheckTimeout(timeout);
        var waiter = Table.StartWaiting(keys);
        // WaitAny, because it leaves a failure for GetResult, which throws it as it is.
        if (Task.WaitAny([waiter.Done], timeout) < 0)
        {
            _table.StopWaiting(waiter);
            var missing = keys.Where(key => _table.Find(key) is null).ToArray();
            throw StoreErrors.WaitTimedOut(timeout, keys, missing, nameof(HashStore));
        }

        waiter.Done.GetAwaiter().GetResult();
    }

    /// <inheritdoc/>
    public override bool Check(IReadOnlyList<string> keys)
    {
        StoreArguments.CheckKeys(keys);
        return Table.ContainsAll(keys);
    }

    /// <inheritdoc/>
    public override byte[] CompareSet(string key, ReadOnlySpan<byte> expected, ReadOnlySpan<byte> desired)
    {
        ArgumentNullException.ThrowIfNull(key);
        return CopyOf(Table.CompareSet(key, expected.ToArray(), desired.ToArray()));
    }

    /// <inheritdoc/>
    public override bool Delete(string key)
    {
        ArgumentNullException.ThrowIfNull(key);
        return Table.Delete(key);
    }

    /// <inheritdoc/>
    public override void Append(string key, ReadOnlySpan<byte> value)
    {
        ArgumentNullException.ThrowIfNull(key);
        Table.Append(key, value);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<byte[]> MultiGet(IReadOnlyList<string> keys, TimeSpan timeout)
    {
        Wait(keys, timeout);
        return [.. Table.FindAll(keys).Select(CopyOf)];
    }

    /// <inheritdoc/>
    public override void MultiSet(IReadOnlyList<string> keys, IReadOnlyList<byte[]> values)
    {
        StoreArguments.CheckPairs(keys, values);
        Table.SetAll(keys, [.. values.Select(CopyOf)]);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _disposed = true;
        _table.Close();
    }

    // The table's arrays are shared by all readers; a caller may write into its own.
    private static byte[] CopyOf(byte[]? value) => value is null ? [] : (byte[])value.Clone();
}
