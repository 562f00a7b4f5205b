using TorchSharp.Modules;
using TorchSharp.Utils;

namespace FabricSharp.Data;

/// <summary>Which items a loader visits, and in which order, epoch by epoch.</summary>
internal abstract class ItemOrder
{
    /// <summary>The number of items of an epoch.</summary>
    public abstract long Count { get; }

    /// <summary>The sampler that shards or shuffles, if it is one of ours.</summary>
    public virtual DistributedSampler? Sampler => null;

    /// <summary>How many ranks share an epoch's items.</summary>
    public virtual int Replicas => 1;

    /// <summary>The epoch that is drawn next.</summary>
    public int NextEpoch { get; set; }

    /// <summary>The items of the next epoch. To be enumerated before the epoch after it is drawn.</summary>
    public IEnumerable<long> DrawNext() => Draw(NextEpoch++);

    /// <summary>The order that keeps the meaning of the loader's own: shuffled, as it comes, or by a sampler of the user.</summary>
    public static ItemOrder Of<T, S>(DataLoader<T, S> loader, Shard shard)
    {
        var items = loader.dataset.Count;
        return loader.sampler switch
        {
            DistributedSampler own => new SampledOrder(own),
            FisherYatesShuffler shuffler => Sampled(ShufflerSize.Of(shuffler), shuffle: true),
            var range when IsRange(range) && shard.Replicas == 1 => new UnshardedOrder(range, items),
            var range when IsRange(range) => Sampled(items, shuffle: false),
            var own when shard.Replicas == 1 => new UnshardedOrder(own, length: null),
            var own => new WrappedOrder(own, shard),
        };

        SampledOrder Sampled(long count, bool shuffle) => new(new DistributedSampler(count, shard.Replicas, shard.Rank, shuffle, shard.Seed));
    }

    protected abstract IEnumerable<long> Draw(int epoch);

    protected static void Tell(IEnumerable<long> sampler, int epoch) => (sampler as IEpochSampler)?.SetEpoch(epoch);

    /// <summary>
    /// Whether TorchSharp made this for <c>shuffle: false</c>: then it is an iterator inside its loader's class. Should another version make
    /// it elsewhere, it is taken for a sampler of the user, which shards alike.
    /// </summary>
    private static bool IsRange(IEnumerable<long> sampler) =>
        sampler.GetType().DeclaringType is { IsGenericType: true } owner && owner.GetGenericTypeDefinition() == typeof(DataLoader<,>);
}
