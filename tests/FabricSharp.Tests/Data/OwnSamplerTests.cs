using FabricSharp.Data;

namespace FabricSharp.Tests.Data;

public class OwnSamplerTests
{
    [Theory]
    [InlineData(0, new long[] { 9, 7, 5 })]
    [InlineData(1, new long[] { 8, 6, 9 })]
    public void Enumerate_TwoRanks_TakesEverySecondItemOfTheSampler(int rank, long[] expected)
    {
        var loader = Wrap([9L, 8, 7, 6, 5], 2, rank);

        Assert.Equal(expected, Items(loader));
        Assert.Equal(expected, Items(loader));
        Assert.Null(loader.Sampler);
        Assert.Equal(2, loader.Count);
    }

    [Fact]
    public void Enumerate_FewerItemsThanRanks_RepeatsThem() =>
        Assert.Equal([3, 4, 3, 4, 3], Enumerable.Range(0, 5).Select(rank => Items(Wrap([3L, 4], 5, rank)).Single()));

    [Fact]
    public void Enumerate_EmptySampler_IsEmpty()
    {
        var loader = Wrap([], 2, 1);

        Assert.Empty(loader);
        Assert.Equal(0, loader.Count);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Count_SamplerShorterThanTheDataSet_IsTheNumberOfBatches(int ranks)
    {
        var loader = Wrap(Enumerable.Range(0, 7).Select(i => (long)i).Where(i => i > 1), ranks, 0);

        Assert.Equal(loader.Count, loader.LongCount());
        Assert.Equal(loader.Count, loader.LongCount());
    }

    [Fact]
    public void Count_SamplerWithoutLength_DrawsNoMoreThanTheEpochs()
    {
        var sampler = new Counted();
        var loader = Wrap(sampler, 2, 0);

        Assert.Equal(2, loader.Count);
        Assert.Equal(1, sampler.Draws);
        Assert.Equal([0, 2, 0], Items(loader));
        Assert.Equal(1, sampler.Draws);
        Assert.Equal([1, 3, 1], Items(loader));
        Assert.Equal(2, loader.Count);
        Assert.Equal(2, sampler.Draws);
    }

    [Fact]
    public void SetEpoch_AfterCount_DrawsAnew()
    {
        var loader = Wrap(new Counted(), 2, 0);
        _ = loader.Count;

        loader.SetEpoch(5);

        Assert.Equal([5, 7, 5], Items(loader));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Enumerate_EpochSampler_IsToldTheEpoch(int ranks)
    {
        var sampler = new Counted();
        var loader = Wrap(sampler, ranks, 0);

        Items(loader);
        Items(loader);

        Assert.Equal([0, 1], sampler.Epochs);
    }

    [Fact]
    public void Enumerate_DistributedSamplerOfTheUser_StaysAndAdvances()
    {
        var sampler = new DistributedSampler(8, 2, 1, seed: 1);
        var loader = Wrap(sampler, 2, 0);

        Assert.Same(sampler, loader.Sampler);
        Assert.Equal([4, 6, 3, 0], Items(loader));
        Items(loader);
        Assert.Equal(1, sampler.Epoch);
        Assert.Equal(2, loader.Count);
    }

    private static FabricDataLoader<long, long[]> Wrap(IEnumerable<long> sampler, int ranks, int rank) =>
        new(Numbers.Loader(10, 2, sampler), new Shard(ranks, rank, 0), device: null);

    private static List<long> Items(FabricDataLoader<long, long[]> loader) => [.. loader.SelectMany(batch => batch)];

    /// <summary>Yields five items that begin with the epoch, and does not know its length.</summary>
    private sealed class Counted : IEpochSampler
    {
        public int Draws { get; private set; }

        public List<int> Epochs { get; } = [];

        public void SetEpoch(int epoch) => Epochs.Add(epoch);

        public IEnumerator<long> GetEnumerator()
        {
            Draws++;
            foreach (var i in new long[] { 0, 1, 2, 3, 0 })
                yield return i + Epochs[^1];
        }

        System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
