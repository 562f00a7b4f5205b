using FabricSharp.Collectives.Stores;

namespace FabricSharp.Collectives;

/// <summary>
/// A part of another store: puts <c>prefix/</c> before each key, so that several users of one store do not meet. Thread-safe if
/// the other store is; every member is local. Disposing it leaves the other store open.
/// </summary>
public sealed class PrefixStore : Store
{
    /// <summary>Creates a view of <paramref name="inner"/>. <see cref="Store.Timeout"/> starts as that store's.</summary>
    /// <param name="prefix">What comes before the slash; views may be nested: the prefix of the innermost comes first.</param>
    /// <param name="inner">The store that holds the keys. Not disposed with this one.</param>
    public PrefixStore(string prefix, Store inner)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        ArgumentNullException.ThrowIfNull(inner);
        Prefix = prefix;
        UnderlyingStore = inner;
        Timeout = inner.Timeout;
    }

    /// <summary>What is put before each key, without the slash.</summary>
    public string Prefix { get; }

    /// <summary>The store that holds the keys.</summary>
    public Store UnderlyingStore { get; }

    /// <summary>The number of all keys of the underlying store, those with other prefixes included.</summary>
    public override long Count => UnderlyingStore.Count;

    /// <inheritdoc/>
    public override void Set(string key, ReadOnlySpan<byte> value) => UnderlyingStore.Set(Full(key), value);

    /// <inheritdoc/>
    public override byte[] Get(string key, TimeSpan timeout) => UnderlyingStore.Get(Full(key), timeout);

    /// <inheritdoc/>
    public override long Add(string key, long amount) => UnderlyingStore.Add(Full(key), amount);

    /// <inheritdoc/>
    public override void Wait(IReadOnlyList<string> keys, TimeSpan timeout) => UnderlyingStore.Wait(Full(keys), timeout);

    /// <inheritdoc/>
    public override bool Check(IReadOnlyList<string> keys) => UnderlyingStore.Check(Full(keys));

    /// <inheritdoc/>
    public override byte[] CompareSet(string key, ReadOnlySpan<byte> expected, ReadOnlySpan<byte> desired) =>
        UnderlyingStore.CompareSet(Full(key), expected, desired);

    /// <inheritdoc/>
    public override bool Delete(string key) => UnderlyingStore.Delete(Full(key));

    /// <inheritdoc/>
    public override void Append(string key, ReadOnlySpan<byte> value) => UnderlyingStore.Append(Full(key), value);

    /// <inheritdoc/>
    public override IReadOnlyList<byte[]> MultiGet(IReadOnlyList<string> keys, TimeSpan timeout) =>
        UnderlyingStore.MultiGet(Full(keys), timeout);

    /// <inheritdoc/>
    public override void MultiSet(IReadOnlyList<string> keys, IReadOnlyList<byte[]> values)
    {
        StoreArguments.CheckPairs(keys, values);
        UnderlyingStore.MultiSet(Full(keys), values);
    }

    /// <summary>The prefix and the underlying store.</summary>
    public override string ToString() => $"PrefixStore({Prefix}/, {UnderlyingStore})";

    private string Full(string key)
    {
        ArgumentNullException.ThrowIfNull(key);
        return $"{Prefix}/{key}";
    }

    private string[] Full(IReadOnlyList<string> keys)
    {
        StoreArguments.CheckKeys(keys);
        return [.. keys.Select(Full)];
    }
}
