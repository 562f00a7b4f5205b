using FabricSharp.Data;
using FabricSharp.Seeding;
using TorchSharp.Modules;

namespace FabricSharp;

/// <summary>Setting up data loaders.</summary>
public sealed partial class Fabric
{
    /// <summary>
    /// Readies a data loader: each rank sees its share of the data set, on its <see cref="Device"/>, and a loader with <c>shuffle: true</c> has
    /// another order each epoch with nothing to call. Local; every rank sets up equal loaders and enumerates them equally often.
    /// </summary>
    /// <remarks>
    /// Shuffling starts from the seed of <see cref="SeedEverything"/> (PL_GLOBAL_SEED), else 0; the seed given to the loader is not used, for
    /// it need not be the same on every rank. A loader made with a <see cref="DistributedSampler"/> keeps it. Of any other sampler of your own,
    /// this rank takes every N-th item beginning at its rank, and the first ones again where they do not divide evenly: it has to be finite
    /// and to yield the same on every rank, and is told the epoch if it is an <see cref="IEpochSampler"/>.
    /// </remarks>
    /// <typeparam name="T">Type of an item of the data set.</typeparam>
    /// <typeparam name="S">Type of a batch.</typeparam>
    /// <param name="loader">Any TorchSharp data loader; use what comes back in its place.</param>
    /// <param name="useDistributedSampler">
    /// Whether the ranks share the data set. False: each rank visits all of it (shuffled alike on all). <value>Default true.</value>
    /// </param>
    /// <param name="moveToDevice">
    /// Whether batches are brought to <see cref="Device"/>: tensors, and arrays, lists, dictionaries, tuples and records of them; other types are
    /// left alone. Nothing is copied that lies there already. <value>Default true.</value>
    /// </param>
    /// <exception cref="ArgumentException">The loader was set up already, or its batch size is not positive.</exception>
    /// <exception cref="InvalidOperationException">There are several devices and Fabric was not launched.</exception>
    public FabricDataLoader<T, S> SetupDataLoaders<T, S>(DataLoader<T, S> loader, bool useDistributedSampler = true, bool moveToDevice = true)
    {
        ArgumentNullException.ThrowIfNull(loader);
        RequireLaunched(nameof(SetupDataLoaders));
        if (_setUp.Contains(loader))
            throw new ArgumentException("A data loader should be passed only once to `SetupDataLoaders`: this one was set up already. Write `var train = fabric.SetupDataLoaders(loader);` once and use the loader that came back.", nameof(loader));
        var wrapped = new FabricDataLoader<T, S>(loader, ShardOf(useDistributedSampler), moveToDevice ? Device : null, GlobalSeed.SeedsWorkers ? new ItemSeeds(GlobalSeed.Current ?? 0, GlobalRank) : null);
        _setUp.Add(loader);
        return wrapped;
    }

    /// <summary>Readies two loaders, such as those for training and validation.</summary>
    /// <inheritdoc cref="SetupDataLoaders{T, S}(DataLoader{T, S}, bool, bool)"/>
    public (FabricDataLoader<T1, S1> First, FabricDataLoader<T2, S2> Second) SetupDataLoaders<T1, S1, T2, S2>(
        DataLoader<T1, S1> first, DataLoader<T2, S2> second, bool useDistributedSampler = true, bool moveToDevice = true) =>
        (SetupDataLoaders(first, useDistributedSampler, moveToDevice), SetupDataLoaders(second, useDistributedSampler, moveToDevice));

    /// <summary>Readies three loaders, such as those for training, validation and test.</summary>
    /// <inheritdoc cref="SetupDataLoaders{T, S}(DataLoader{T, S}, bool, bool)"/>
    public (FabricDataLoader<T1, S1> First, FabricDataLoader<T2, S2> Second, FabricDataLoader<T3, S3> Third) SetupDataLoaders<T1, S1, T2, S2, T3, S3>(
        DataLoader<T1, S1> first, DataLoader<T2, S2> second, DataLoader<T3, S3> third, bool useDistributedSampler = true, bool moveToDevice = true) =>
        (SetupDataLoaders(first, useDistributedSampler, moveToDevice),
            SetupDataLoaders(second, useDistributedSampler, moveToDevice),
            SetupDataLoaders(third, useDistributedSampler, moveToDevice));

    /// <summary>Readies any number of loaders of one type.</summary>
    /// <inheritdoc cref="SetupDataLoaders{T, S}(DataLoader{T, S}, bool, bool)"/>
    public FabricDataLoader<T, S>[] SetupDataLoaders<T, S>(IEnumerable<DataLoader<T, S>> loaders, bool useDistributedSampler = true, bool moveToDevice = true)
    {
        ArgumentNullException.ThrowIfNull(loaders);
        return [.. loaders.Select(loader => SetupDataLoaders(loader, useDistributedSampler, moveToDevice))];
    }

    /// <summary>How many workers a data loader should have at most, so that all ranks of a machine get along with its cores: cores / ranks − 1, but at least 1. Local.</summary>
    /// <param name="localWorldSize">Ranks on this machine, at least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There are no ranks.</exception>
    public static int SuggestedMaxNumWorkers(int localWorldSize) => SuggestedMaxNumWorkers(localWorldSize, Environment.ProcessorCount);

    internal static int SuggestedMaxNumWorkers(int localWorldSize, int cores)
    {
        if (localWorldSize < 1)
            throw new ArgumentOutOfRangeException(nameof(localWorldSize), localWorldSize, $"SuggestedMaxNumWorkers({localWorldSize}): a machine has at least 1 rank.");
        return Math.Max(1, cores / localWorldSize - 1);
    }

    private Shard ShardOf(bool useDistributedSampler)
    {
        var seed = GlobalSeed.Current ?? 0;
        return useDistributedSampler && Strategy.IsDistributed ? new Shard(WorldSize, GlobalRank, seed) : Shard.Whole(seed);
    }
}
