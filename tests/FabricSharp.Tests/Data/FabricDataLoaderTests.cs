using FabricSharp.Data;
using TorchSharp.Modules;
using TorchSharp.Utils;

namespace FabricSharp.Tests.Data;

public class FabricDataLoaderTests
{
    [Fact]
    public void Count_AnySizeRanksBatchAndDropLast_IsTheNumberOfBatches()
    {
        int[] sizes = [0, 1, 2, 3, 5, 7, 8, 9, 16, 31];
        var cases =
            from size in sizes
            from ranks in new[] { 1, 2, 3, 8 }
            from rank in Enumerable.Range(0, ranks)
            from batch in new[] { 1, 2, 4, 64 }
            from dropLast in new[] { false, true }
            from shuffle in new[] { false, true }
            select (size, ranks, rank, batch, dropLast, shuffle);
        Assert.All(cases, c =>
        {
            using var loader = Wrap(Numbers.Loader(c.size, c.batch, c.shuffle, c.dropLast), c.ranks, c.rank);

            var batches = loader.ToList();

            var perRank = (c.size + c.ranks - 1) / c.ranks;
            Assert.Equal(c.dropLast ? perRank / c.batch : (perRank + c.batch - 1) / c.batch, batches.Count);
            Assert.Equal(loader.Count, batches.Count);
            Assert.All(batches.SkipLast(c.dropLast ? 0 : 1), batch => Assert.Equal(c.batch, batch.Length));
        });
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Enumerate_TwoRanks_CoverTheDataSet(bool shuffle)
    {
        var seen = Enumerable.Range(0, 2).SelectMany(rank => Items(Wrap(Numbers.Loader(10, 3, shuffle), 2, rank)));

        Assert.Equal(Enumerable.Range(0, 10).Select(i => (long)i), seen.Order());
    }

    [Fact]
    public void Enumerate_Shuffle_IsTheOrderOfTheSamplerEpochByEpoch()
    {
        var loader = Wrap(Numbers.Loader(20, 3, shuffle: true), 2, 1, seed: 7);

        for (var epoch = 0; epoch < 4; epoch++)
        {
            var expected = new DistributedSampler(20, 2, 1, seed: 7);
            expected.SetEpoch(epoch);
            Assert.Equal(expected, Items(loader));
        }

        Assert.NotNull(loader.Sampler);
    }

    [Fact]
    public void Enumerate_OneRankShuffle_DiffersEachEpochThoughTheLoaderHasASeed()
    {
        var original = new DataLoader<long, long[]>(new Numbers(50), 8, Numbers.Collate, shuffle: true, seed: 3);
        var loader = Wrap(original);

        var epochs = Enumerable.Range(0, 3).Select(_ => Items(loader)).ToList();

        Assert.Equal(3, epochs.Select(items => string.Join(',', items)).Distinct().Count());
        Assert.All(epochs, items => Assert.Equal(Enumerable.Range(0, 50).Select(i => (long)i), items.Order()));
    }

    [Fact]
    public void Enumerate_OneRankNoShuffle_KeepsTheOrder()
    {
        var loader = Wrap(Numbers.Loader(5, 2));

        Assert.Equal([0, 1, 2, 3, 4], Items(loader));
        Assert.Equal([0, 1, 2, 3, 4], Items(loader));
        Assert.Null(loader.Sampler);
    }

    [Fact]
    public void Enumerate_AfterBreak_IsTheNextEpoch()
    {
        var loader = Wrap(Numbers.Loader(30, 2, shuffle: true), 2, 0);
        foreach (var _ in loader)
            break;

        Assert.Equal(OfEpoch(1), Items(loader));

        static IEnumerable<long> OfEpoch(int epoch)
        {
            var sampler = new DistributedSampler(30, 2, 0);
            sampler.SetEpoch(epoch);
            return sampler;
        }
    }

    [Fact]
    public void Enumerate_TwiceAtOnce_IsIndependent()
    {
        var alone = Wrap(Numbers.Loader(12, 2, shuffle: true), 2, 0);
        var (first, second) = (Items(alone), Items(alone));
        var loader = Wrap(Numbers.Loader(12, 2, shuffle: true), 2, 0);

        var pairs = loader.Zip(loader).ToList();

        Assert.Equal(first, pairs.SelectMany(pair => pair.First));
        Assert.Equal(second, pairs.SelectMany(pair => pair.Second));
    }

    [Fact]
    public void SetEpoch_BeforeAnEnumeration_ResumesThere()
    {
        var loader = Wrap(Numbers.Loader(12, 2, shuffle: true), 2, 0);
        var epochs = Enumerable.Range(0, 4).Select(_ => Items(loader)).ToList();

        loader.SetEpoch(2);

        Assert.Equal(epochs[2], Items(loader));
        Assert.Equal(epochs[3], Items(loader));
        Assert.Throws<ArgumentOutOfRangeException>(() => loader.SetEpoch(-1));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void Enumerate_Workers_KeepTheOrderAndTheLastPartialBatch(int workers)
    {
        var batches = Wrap(Numbers.Loader(11, 4, workers: workers), 1, 0).ToList();

        Assert.Equal([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]], batches);
    }

    [Fact]
    public void Enumerate_ShufflerOverAPart_ShardsThatPart()
    {
        var shares = Enumerable.Range(0, 2).Select(rank => Wrap(Numbers.Loader(100, 2, new FisherYatesShuffler(6)), 2, rank)).ToList();

        Assert.All(shares, loader => Assert.Equal(2, loader.Count));
        Assert.Equal([0, 1, 2, 3, 4, 5], shares.SelectMany(Items).Order());
    }

    [Fact]
    public void Dispose_Original_DisposesTheDataSetIfItIsToBe()
    {
        var owned = Numbers.Loader(4, 2);
        var shared = new DataLoader<long, long[]>(new Numbers(4), 2, Numbers.Collate, disposeDataset: false);
        var loader = Wrap(owned);

        loader.Dispose();
        loader.Dispose();
        Wrap(shared).Dispose();

        Assert.True(((Numbers)owned.dataset).Disposed);
        Assert.False(((Numbers)shared.dataset).Disposed);
        Assert.Throws<ObjectDisposedException>(() => loader.GetEnumerator());
    }

    [Fact]
    public void Enumerate_ToItsEnd_LeavesTheDataSetAlive()
    {
        var original = Numbers.Loader(4, 2);

        Items(Wrap(original));

        Assert.False(((Numbers)original.dataset).Disposed);
    }

    [Fact]
    public void Constructor_BatchSizeZero_Throws() =>
        Assert.Contains("batch size 0", Assert.Throws<ArgumentException>(() => Wrap(Numbers.Loader(4, 0))).Message, StringComparison.Ordinal);

    private static FabricDataLoader<long, long[]> Wrap(DataLoader<long, long[]> loader, int ranks = 1, int rank = 0, long seed = 0) =>
        new(loader, new Shard(ranks, rank, seed), device: null);

    private static List<long> Items(FabricDataLoader<long, long[]> loader) => [.. loader.SelectMany(batch => batch)];
}
