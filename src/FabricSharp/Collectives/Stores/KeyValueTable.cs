using System.Globalization;

namespace FabricSharp.Collectives.Stores;

/// <summary>
/// Keys, values and those who wait for them, under one lock: the state of <see cref="HashStore"/> and of the TCP server.
/// Values are never changed in place, so that a reader may keep the array it was given.
/// </summary>
internal sealed partial class KeyValueTable(long maxBytes = long.MaxValue)
{
    // What an entry costs beside its bytes, roughly; keeps empty values from being free.
    private const int EntryOverhead = 64;

    private readonly Lock _gate = new();
    private readonly Dictionary<string, byte[]> _values = [];
    private readonly KeyWaiters _waiters = new();
    private long _bytes;
    private bool _closed;

    public int Count
    {
        get
        {
            lock (_gate)
                return _values.Count;
        }
    }

    public void Set(string key, byte[] value)
    {
        lock (_gate)
            StoreLocked(key, value);
    }

    public void SetAll(IReadOnlyList<string> keys, IReadOnlyList<byte[]> values)
    {
        lock (_gate)
        {
            for (var i = 0; i < keys.Count; i++)
                StoreLocked(keys[i], values[i]);
        }
    }

    public byte[]? Find(string key)
    {
        lock (_gate)
            return _values.GetValueOrDefault(key);
    }

    public byte[]?[] FindAll(IReadOnlyList<string> keys)
    {
        lock (_gate)
            return [.. keys.Select(_values.GetValueOrDefault)];
    }

    public string[] Keys()
    {
        lock (_gate)
            return [.. _values.Keys];
    }

    public bool ContainsAll(IReadOnlyList<string> keys)
    {
        lock (_gate)
            return keys.All(IsPresentLocked);
    }

    public void Append(string key, ReadOnlySpan<byte> value)
    {
        lock (_gate)
            StoreLocked(key, [.. _values.GetValueOrDefault(key, []), .. value]);
    }

    /// <summary>Adds to a counter that is stored as decimal text.</summary>
    /// <exception cref="FormatException">The present value is not such a text.</exception>
    /// <exception cref="OverflowException">The sum does not fit.</exception>
    public long Add(string key, long amount)
    {
        lock (_gate)
        {
            var current = _values.TryGetValue(key, out var text)
                ? long.Parse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture)
                : 0;
            var sum = checked(current + amount);
            StoreLocked(key, StoreProtocol.Text.GetBytes(sum.ToString(CultureInfo.InvariantCulture)));
            return sum;
        }
    }

    /// <summary>As <see cref="Store.CompareSet"/>; keeps <paramref name="desired"/> itself.</summary>
    public byte[] CompareSet(string key, byte[] expected, byte[] desired)
    {
        lock (_gate)
        {
            if (!_values.TryGetValue(key, out var current) ? expected.Length > 0 : !current.AsSpan().SequenceEqual(expected))
                return current ?? expected;

            StoreLocked(key, desired);
            return desired;
        }
    }

    public bool Delete(string key)
    {
        lock (_gate)
        {
            if (!_values.Remove(key, out var value))
                return false;

            _bytes -= CostOf(key, value);
            if (!IsPresentLocked(key))
                _waiters.KeyVanished(key);
            return true;
        }
    }

    /// <summary>Starts to wait for all of <paramref name="keys"/>; end it with <see cref="StopWaiting"/>.</summary>
    /// <exception cref="ObjectDisposedException">The table was closed.</exception>
    public KeyWaiter StartWaiting(IEnumerable<string> keys)
    {
        var waiter = new KeyWaiter([.. keys.Distinct()]);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_closed, typeof(Store));
            waiter.Missing = waiter.Keys.Count(key => !IsPresentLocked(key));
            if (waiter.Missing == 0)
                waiter.Complete();
            else
                _waiters.Register(waiter);
        }

        return waiter;
    }

    public void StopWaiting(KeyWaiter waiter)
    {
        lock (_gate)
            _waiters.Unregister(waiter);
    }

    /// <summary>Ends all waits with an <see cref="ObjectDisposedException"/> and refuses new ones.</summary>
    public void Close()
    {
        lock (_gate)
        {
            _closed = true;
            _waiters.FailAll(waiter => new ObjectDisposedException(
                nameof(Store), $"The store was disposed while a call waited for {StoreErrors.List(waiter.Keys)}."));
        }
    }

    private static long CostOf(string key, byte[] value) => key.Length + (long)value.Length + EntryOverhead;

    private bool IsPresentLocked(string key) => _values.ContainsKey(key) || _queues.ContainsKey(key);

    private void StoreLocked(string key, byte[] value)
    {
        var existed = _values.TryGetValue(key, out var old);
        ReserveLocked(CostOf(key, value) - (existed ? CostOf(key, old!) : 0));
        _values[key] = value;
        if (!existed)
            _waiters.ValueAppeared(key, isNew: !_queues.ContainsKey(key));
    }

    private void ReserveLocked(long more)
    {
        if (more > 0 && _bytes + more > maxBytes)
            throw new StoreProtocolException($"The store holds {_bytes} bytes; {more} more would exceed its limit of {maxBytes}.");

        _bytes += more;
    }
}
