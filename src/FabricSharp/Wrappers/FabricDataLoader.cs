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
/// In a checkpoint a loader is the position of its latest enumeration: loading it makes the next enumeration go on with the batch after that.
/// </remarks>
public sealed class FabricDataLoader<T, S> : IEnumerable<S>, IDisposable, IResumableLoader
{
    private readonly ItemOrder _order;
    private readonly ItemSeeds? _seeds;
    private EpochProgress? _latest;

    /// <summary>The batches of the next epoch that a resumed run has behind it.</summary>
    private long _batchesToSkip;

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
        _batchesToSkip = 0;
    }

    /// <summary>
    /// Where the loader is: inside a loop over it, behind the batch that was handed out last; outside, at the beginning of the next epoch, whether
    /// the one before was left early or not. Of several enumerations at the same time, the one that began last counts. Local.
    /// </summary>
    public DataLoaderState State
    {
        get
        {
            var (epoch, batches) = _latest is { HasEnded: false } latest ? (latest.Epoch, latest.Batches) : (_order.NextEpoch, _batchesToSkip);
            return new DataLoaderState(epoch, batches, Loader.batch_size, _order.Replicas, Sampler?.ShuffleSeed);
        }
    }

    /// <summary>
    /// Makes the next enumeration go on where <paramref name="state"/> was taken: it is the rest of that epoch, and the items before are not read.
    /// <see cref="Count"/> remains that of a whole epoch. A state of another number of ranks or batch size is translated; where the place lies
    /// within a batch of this loader, that batch is visited as a whole, so that some items come twice in the epoch. Local; the same on every rank.
    /// </summary>
    /// <exception cref="ArgumentException">The state is impossible here: negative, beyond the epoch's end, or in an order drawn from another seed.</exception>
    public void LoadState(DataLoaderState state)
    {
        var (here, _) = ((IResumableLoader)this).Translate(state);
        _latest = null;
        _order.NextEpoch = here.Epoch;
        _batchesToSkip = here.Batches;
    }

    (DataLoaderState State, bool IsExact) IResumableLoader.Translate(DataLoaderState state)
    {
        ArgumentNullException.ThrowIfNull(state);
        if (state.Epoch < 0 || state.Batches < 0 || state.BatchSize < 1 || state.Ranks < 1)
            throw new ArgumentException($"{state} is no state of a data loader: epochs and batches count from 0, batch size and ranks from 1.", nameof(state));
        if (state.Batches > 0 && state.Seed != Sampler?.ShuffleSeed)
            throw new ArgumentException($"{state} lies in an epoch that was shuffled from the seed {TextOf(state.Seed)}, this loader shuffles from {TextOf(Sampler?.ShuffleSeed)}: it would visit other items. Call `Fabric.SeedEverything` with the same seed before `SetupDataLoaders`, and use the same sampler.", nameof(state));
        var (batches, rest) = Int128.DivRem((Int128)state.Batches * state.BatchSize * state.Ranks, (Int128)Loader.batch_size * _order.Replicas);
        var beyond = Sampler is null ? 0 : batches - Count;
        if (beyond * Loader.batch_size * _order.Replicas >= (Int128)state.BatchSize * state.Ranks) // less than a batch: its last one was not full
            throw new ArgumentException($"{state} lies beyond the end of this loader's epoch, which has {Count} batches of {Loader.batch_size} on {_order.Replicas} ranks: the data set is not the same.", nameof(state));
        return (new DataLoaderState(state.Epoch, (long)(batches - Int128.Max(beyond, 0)), Loader.batch_size, _order.Replicas, Sampler?.ShuffleSeed), rest == 0);
    }

    /// <summary>Begins the next epoch. Local, but ranks have the same order only if they begin equally many.</summary>
    /// <exception cref="DatasetItemException">From the loop: the data set threw; the exception names the item.</exception>
    public IEnumerator<S> GetEnumerator()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        _latest = new EpochProgress(_order.NextEpoch, _batchesToSkip);
        var epoch = _order.NextEpoch;
        Func<long, ulong>? seedOf = _seeds is { } seeds ? index => seeds.Of(epoch, index) : null;
        var items = _order.DrawNext();
        if (_batchesToSkip > 0)
            items = Rest(items, checked(_batchesToSkip * Loader.batch_size));
        _batchesToSkip = 0;
        if (Prefetch == 0)
            return new BatchEnumerator<T, S>(Loader, items, Device, seedOf, handsOver: false, _latest);
        var batches = new BatchEnumerator<T, S>(Loader, items, Device, seedOf, handsOver: true, progress: null);
        return new PrefetchingEnumerator<T, S>(batches, Prefetch, Loader.DisposeBatch, _latest);
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

    /// <summary>Begins at once, so that the order is that of this epoch.</summary>
    private static IEnumerable<long> Rest(IEnumerable<long> items, long skipped)
    {
        var enumerator = items.GetEnumerator();
        while (skipped > 0 && enumerator.MoveNext())
            skipped--;
        return RestOf(enumerator);
    }

    private static IEnumerable<long> RestOf(IEnumerator<long> begun)
    {
        using (begun)
            while (begun.MoveNext())
                yield return begun.Current;
    }

    private static string TextOf(long? seed) => seed is { } number ? $"{number}" : "none";
}
