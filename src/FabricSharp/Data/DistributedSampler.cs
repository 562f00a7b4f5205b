using System.Collections;
using static TorchSharp.torch;

namespace FabricSharp.Data;

/// <summary>
/// One rank's share of a data set: item numbers in the order in which the rank visits them, equal to PyTorch's
/// <c>torch.utils.data.DistributedSampler</c> number by number. Rank r takes items r, r + N, r + 2N, … of the epoch's order, so that the
/// ranks' shares cover the data set and have the same size. Give it to a data loader as its shuffler.
/// </summary>
/// <remarks>
/// The order is that of <c>torch.randperm</c> with a generator of its own, seeded with seed + epoch: every rank draws the same one without
/// talking to the others. An enumeration keeps the epoch that it began with.
/// </remarks>
public sealed class DistributedSampler : IEpochSampler
{
    private readonly long _items;
    private readonly int _numReplicas;
    private readonly int _rank;
    private readonly bool _shuffle;
    private readonly long _seed;

    /// <summary>Describes the share. Nothing is drawn before it is enumerated. Local.</summary>
    /// <param name="count">The number of items of the data set; 0 gives an empty sampler.</param>
    /// <param name="numReplicas">The number of ranks, at least 1.</param>
    /// <param name="rank">This rank, 0 to <paramref name="numReplicas"/> − 1.</param>
    /// <param name="shuffle">Whether the order is drawn anew for each epoch; false takes items as they come. <value>Default true.</value></param>
    /// <param name="seed">Not negative and the same on every rank. <value>Default 0.</value></param>
    /// <param name="dropLast">
    /// What to do where the items do not divide evenly: true leaves out the last ones; false repeats the first ones, so that some items are
    /// visited twice in an epoch. <value>Default false.</value>
    /// </param>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of its range.</exception>
    public DistributedSampler(long count, int numReplicas, int rank, bool shuffle = true, long seed = 0, bool dropLast = false)
    {
        Require(count >= 0, nameof(count), count, "a data set has 0 items or more");
        Require(numReplicas >= 1, nameof(numReplicas), numReplicas, "there is at least 1 rank: write fabric.WorldSize");
        Require(rank >= 0 && rank < numReplicas, nameof(rank), rank, $"with {numReplicas} ranks they are numbered 0 to {numReplicas - 1}: write fabric.GlobalRank");
        Require(seed >= 0, nameof(seed), seed, "a seed is 0 or more, and the same on every rank");
        _items = count;
        _numReplicas = numReplicas;
        _rank = rank;
        _shuffle = shuffle;
        _seed = seed;
        Count = dropLast ? count / numReplicas : (count + numReplicas - 1) / numReplicas;
    }

    /// <summary>The number of items of this rank's share, the same on every rank.</summary>
    public long Count { get; }

    /// <summary>The number of ranks that share an epoch.</summary>
    internal int Replicas => _numReplicas;

    /// <summary>What the orders are drawn from; null where they are not shuffled.</summary>
    internal long? ShuffleSeed => _shuffle ? _seed : null;

    /// <summary>The epoch that the next enumeration draws the order of. <value>Default 0.</value></summary>
    public int Epoch { get; private set; }

    /// <inheritdoc/>
    /// <exception cref="ArgumentOutOfRangeException">The epoch is negative.</exception>
    public void SetEpoch(int epoch)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(epoch);
        Epoch = epoch;
    }

    /// <summary>This rank's items in the order of <see cref="Epoch"/>. Local.</summary>
    public IEnumerator<long> GetEnumerator() => Share(_shuffle ? Permutation() : null);

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private long[] Permutation()
    {
        using var generator = new Generator((ulong)(_seed + Epoch));
        using var order = randperm(_items, generator: generator);
        return order.data<long>().ToArray();
    }

    private IEnumerator<long> Share(long[]? order)
    {
        for (var i = 0L; i < Count; i++)
        {
            var position = (_rank + i * _numReplicas) % _items; // beyond the last item the order begins again: that is the padding
            yield return order is null ? position : order[position];
        }
    }

    private static void Require(bool fits, string argument, long value, string expected)
    {
        if (!fits)
            throw new ArgumentOutOfRangeException(argument, value, $"DistributedSampler({argument}: {value}): {expected}.");
    }
}
