using System.Collections;
using FabricSharp.Data;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>
/// What <c>SetupDataLoaders</c> makes of a TorchSharp data loader: this rank's share of the batches, on this rank's device, in another order
/// each epoch if the loader shuffles. Data set, batch size, collate function, workers and drop-last are the original's.
/// </summary>
/// <typeparam name="T">Type of an item of the data set.</typeparam>
/// <typeparam name="S">Type of a batch.</typeparam>
/// <remarks>
/// Each enumeration is one epoch: the first is epoch 0, and a new one is the next epoch even if the one before was left early. Shuffled orders
/// depend on the epoch and the seed alone, so ranks that enumerate equally often agree on them. Enumerations that run at the same time are
/// independent. A batch is disposed when the next one is asked for, unless the original was made with <c>disposeBatch: false</c>.
/// </remarks>
public sealed class FabricDataLoader<T, S> : IEnumerable<S>, IDisposable
{
    private readonly ItemOrder _order;
    private readonly ItemSeeds? _seeds;
    private bool _disposed;

    internal FabricDataLoader(DataLoader<T, S> loader, Shard shard, Device? device, ItemSeeds? seeds = null)
    {
        if (loader.batch_size < 1)
            throw new ArgumentException($"The data loader has the batch size {loader.batch_size}: it must be 1 or more.", nameof(loader));
        Loader = loader;
        Device = device;
        _seeds = seeds;
        _order = ItemOrder.Of(loader, shard);
    }

    /// <summary>The original data loader.</summary>
    public DataLoader<T, S> Loader { get; }

    /// <summary>Where batches are brought; null if they stay where the original makes them.</summary>
    public Device? Device { get; }

    /// <summary>
    /// The sampler that shards or shuffles; null where the original's order is used as it is or, with a sampler of the user's own, every N-th
    /// of its items.
    /// </summary>
    public DistributedSampler? Sampler => _order.Sampler;

    /// <summary>
    /// The number of batches that an enumeration yields on this rank, the same on every rank. (TorchSharp's own loaders count the whole data
    /// set's.) A sampler of the user's own that is no collection is enumerated to know it.
    /// </summary>
    public long Count => Loader.drop_last ? _order.Count / Loader.batch_size : (_order.Count + Loader.batch_size - 1) / Loader.batch_size;

    /// <summary>
    /// How many batches a thread of each enumeration loads and brings to <see cref="Device"/> ahead of their use; it ends with the enumeration. Applies to
    /// enumerations that begin later. <value>Default 0: a batch is made when it is asked for, so that what a data set draws from TorchSharp's default
    /// generator repeats from run to run (with <see cref="ItemRandom"/> it does in any case).</value>
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative.</exception>
    public int Prefetch
    {
        get;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            field = value;
        }
    }

    /// <summary>Makes the next enumeration epoch <paramref name="epoch"/>, to resume a run; without it, epochs are counted from 0. Local.</summary>
    /// <param name="epoch">From 0, the same on every rank.</param>
    /// <exception cref="ArgumentOutOfRangeException">The epoch is negative.</exception>
    public void SetEpoch(int epoch)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(epoch);
        _order.NextEpoch = epoch;
    }

    /// <summary>Begins the next epoch. Local, but ranks have the same order only if they begin equally many.</summary>
    /// <exception cref="DatasetItemException">From the loop: the data set threw; the exception names the item.</exception>
    public IEnumerator<S> GetEnumerator()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        var epoch = _order.NextEpoch;
        Func<long, ulong>? seedOf = _seeds is { } seeds ? index => seeds.Of(epoch, index) : null;
        var batches = new BatchEnumerator<T, S>(Loader, _order.DrawNext(), Device, seedOf, handsOver: Prefetch > 0);
        return Prefetch > 0 ? new PrefetchingEnumerator<T, S>(batches, Prefetch, Loader.DisposeBatch) : batches;
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>Disposes the original loader, and with it the data set unless it was made with <c>disposeDataset: false</c>.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        Loader.Dispose();
    }
}
