using FabricSharp.Collectives.Stores;

namespace FabricSharp.Collectives;

/// <summary>
/// A small key-value store that the ranks of a job share: how they find each other before any process group exists.
/// Keys are text, values are bytes. All members are thread-safe, local (no other rank has to call) and limited in time.
/// Semantics follow PyTorch's <c>torch.distributed.Store</c>.
/// </summary>
public abstract class Store : IDisposable
{
    /// <summary>How long <see cref="Get(string)"/> and <see cref="Wait(IReadOnlyList{string})"/> wait when no limit is given.</summary>
    /// <value>Default 300 seconds, as in PyTorch.</value>
    public TimeSpan Timeout { get; set; } = TimeSpan.FromSeconds(300);

    /// <summary>Sets <paramref name="key"/> to <paramref name="value"/>, replacing what was there.</summary>
    public abstract void Set(string key, ReadOnlySpan<byte> value);

    /// <summary>Waits until <paramref name="key"/> exists, at most <paramref name="timeout"/>, and returns its value.</summary>
    /// <exception cref="DistributedTimeoutException">The key did not appear in time.</exception>
    public abstract byte[] Get(string key, TimeSpan timeout);

    /// <summary><see cref="Get(string, TimeSpan)"/> with <see cref="Timeout"/>.</summary>
    public byte[] Get(string key) => Get(key, Timeout);

    /// <summary>
    /// Adds <paramref name="amount"/> to the counter <paramref name="key"/> (created as 0) in one step and returns the new value.
    /// The counter is stored as decimal text; adding 0 reads it.
    /// </summary>
    public abstract long Add(string key, long amount);

    /// <summary>Waits until all <paramref name="keys"/> exist, at most <paramref name="timeout"/>.</summary>
    /// <exception cref="DistributedTimeoutException">Some key did not appear in time; the message lists the missing ones.</exception>
    public abstract void Wait(IReadOnlyList<string> keys, TimeSpan timeout);

    /// <summary><see cref="Wait(IReadOnlyList{string}, TimeSpan)"/> with <see cref="Timeout"/>.</summary>
    public void Wait(IReadOnlyList<string> keys) => Wait(keys, Timeout);

    /// <summary>Whether all <paramref name="keys"/> exist now. Does not wait.</summary>
    public abstract bool Check(IReadOnlyList<string> keys);

    /// <summary>
    /// Replaces the value of <paramref name="key"/> by <paramref name="desired"/> if it equals <paramref name="expected"/>, in one step.
    /// A missing key with an empty <paramref name="expected"/> is set; a missing key with another one is left missing.
    /// </summary>
    /// <returns>The value after the call (for a missing key that stays missing: <paramref name="expected"/>).</returns>
    public abstract byte[] CompareSet(string key, ReadOnlySpan<byte> expected, ReadOnlySpan<byte> desired);

    /// <summary>Removes <paramref name="key"/>.</summary>
    /// <returns>Whether it was there.</returns>
    public abstract bool Delete(string key);

    /// <summary>The number of keys, those that the store keeps for itself included.</summary>
    public abstract long Count { get; }

    /// <summary>Appends <paramref name="value"/> to what <paramref name="key"/> holds (nothing, if it is missing) in one step.</summary>
    /// <exception cref="NotSupportedException">This kind of store cannot append.</exception>
    public virtual void Append(string key, ReadOnlySpan<byte> value) =>
        throw new NotSupportedException($"{GetType().Name} cannot append (key '{key}'). Use a TCPStore or a HashStore, or Set whole values.");

    /// <summary>
    /// Waits until all <paramref name="keys"/> exist, at most <paramref name="timeout"/>, and returns their values in that order;
    /// in one exchange where the store can.
    /// </summary>
    /// <exception cref="DistributedTimeoutException">Some key did not appear in time; the message lists the missing ones.</exception>
    public virtual IReadOnlyList<byte[]> MultiGet(IReadOnlyList<string> keys, TimeSpan timeout)
    {
        Wait(keys, timeout);
        return [.. keys.Select(key => Get(key, timeout))];
    }

    /// <summary><see cref="MultiGet(IReadOnlyList{string}, TimeSpan)"/> with <see cref="Timeout"/>.</summary>
    public IReadOnlyList<byte[]> MultiGet(IReadOnlyList<string> keys) => MultiGet(keys, Timeout);

    /// <summary>
    /// Sets each of <paramref name="keys"/> to the value at the same place of <paramref name="values"/>; in one exchange where
    /// the store can.
    /// </summary>
    /// <exception cref="ArgumentException">There are not as many values as keys, or one of them is null.</exception>
    public virtual void MultiSet(IReadOnlyList<string> keys, IReadOnlyList<byte[]> values)
    {
        StoreArguments.CheckPairs(keys, values);
        for (var i = 0; i < keys.Count; i++)
            Set(keys[i], values[i]);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases connections and threads; the default does nothing.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }
}
