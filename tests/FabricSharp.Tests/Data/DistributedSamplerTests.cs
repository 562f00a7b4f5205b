using CsCheck;
using FabricSharp.Data;

namespace FabricSharp.Tests.Data;

public class DistributedSamplerTests
{
    [Theory]
    [InlineData(0, new long[] { 0, 2, 4, 6 })]
    [InlineData(1, new long[] { 1, 3, 5, 7 })]
    public void Enumerate_NoShuffle_TakesEverySecondItem(int rank, long[] expected) =>
        Assert.Equal(expected, new DistributedSampler(8, 2, rank, shuffle: false));

    [Theory]
    [InlineData(0, new long[] { 5, 2, 7, 1 })]
    [InlineData(1, new long[] { 4, 6, 3, 0 })]
    public void Enumerate_Shuffle_GivesThePermutationOfPyTorch(int rank, long[] expected) =>
        Assert.Equal(expected, new DistributedSampler(8, 2, rank, seed: 1));

    [Fact]
    public void SetEpoch_Shuffle_AddsTheEpochToTheSeed()
    {
        var sampler = new DistributedSampler(8, 2, 0, seed: 0);

        sampler.SetEpoch(1);

        Assert.Equal(1, sampler.Epoch);
        Assert.Equal([5, 2, 7, 1], sampler);
    }

    [Fact]
    public void SetEpoch_DuringAnEnumeration_LeavesItsOrder()
    {
        var sampler = new DistributedSampler(8, 2, 0, seed: 1);
        using var items = sampler.GetEnumerator();

        sampler.SetEpoch(5);

        var drawn = new List<long>();
        while (items.MoveNext())
            drawn.Add(items.Current);
        Assert.Equal([5, 2, 7, 1], drawn);
    }

    [Theory]
    [InlineData(0, false, new long[] { 0, 2, 4, 6 })]
    [InlineData(1, false, new long[] { 1, 3, 5, 0 })]
    [InlineData(0, true, new long[] { 0, 2, 4 })]
    [InlineData(1, true, new long[] { 1, 3, 5 })]
    public void Enumerate_UnevenItems_PadsOrDrops(int rank, bool dropLast, long[] expected)
    {
        var sampler = new DistributedSampler(7, 2, rank, shuffle: false, dropLast: dropLast);

        Assert.Equal(expected, sampler);
        Assert.Equal(expected.Length, sampler.Count);
    }

    [Fact]
    public void Enumerate_FewerItemsThanRanks_RepeatsTheList()
    {
        var shares = Enumerable.Range(0, 8).Select(rank => new DistributedSampler(3, 8, rank, shuffle: false).Single());

        Assert.Equal([0, 1, 2, 0, 1, 2, 0, 1], shares);
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void Enumerate_EmptyDataSet_IsEmpty(bool shuffle, bool dropLast)
    {
        var sampler = new DistributedSampler(0, 3, 2, shuffle, dropLast: dropLast);

        Assert.Empty(sampler);
        Assert.Equal(0, sampler.Count);
    }

    [Fact]
    public void Enumerate_AnySettings_InterleavesThePaddedOrderOfOneRank() =>
        Gen.Select(Gen.Int[1, 60], Gen.Int[1, 12], Gen.Bool, Gen.Int[0, 1000], Gen.Int[0, 20], Gen.Bool).Sample((count, ranks, shuffle, seed, epoch, dropLast) =>
        {
            var order = Draw(count, 1, 0, shuffle, seed, epoch, dropLast);
            var shares = Enumerable.Range(0, ranks).Select(rank => Draw(count, ranks, rank, shuffle, seed, epoch, dropLast)).ToList();

            var perRank = dropLast ? count / ranks : (int)Math.Ceiling((double)count / ranks);
            Assert.Equal(Enumerable.Range(0, count).Select(i => (long)i), order.Order());
            Assert.All(shares, share => Assert.Equal(perRank, share.Count));
            var together = Enumerable.Range(0, perRank * ranks).Select(i => shares[i % ranks][i / ranks]);
            Assert.Equal(Padded(order, perRank * ranks), together);
        });

    [Fact]
    public void Enumerate_Shuffle_LeavesNoTensor()
    {
        var sampler = new DistributedSampler(100, 2, 0);
        var before = LiveTensors.Settled();

        _ = sampler.ToList();

        Assert.Equal(before, TorchSharp.torch.Tensor.TotalCount);
    }

    [Theory]
    [InlineData(-1, 2, 0, 0, "count")]
    [InlineData(8, 0, 0, 0, "numReplicas")]
    [InlineData(8, 2, 2, 0, "rank")]
    [InlineData(8, 2, -1, 0, "rank")]
    [InlineData(8, 2, 0, -5, "seed")]
    public void Constructor_ArgumentOutOfRange_NamesIt(long count, int numReplicas, int rank, long seed, string argument)
    {
        var error = Assert.Throws<ArgumentOutOfRangeException>(() => new DistributedSampler(count, numReplicas, rank, seed: seed));

        Assert.Equal(argument, error.ParamName);
        Assert.Contains($"{argument}: ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SetEpoch_Negative_Throws() =>
        Assert.Throws<ArgumentOutOfRangeException>(() => new DistributedSampler(8, 2, 0).SetEpoch(-1));

    private static List<long> Draw(int count, int ranks, int rank, bool shuffle, int seed, int epoch, bool dropLast)
    {
        var sampler = new DistributedSampler(count, ranks, rank, shuffle, seed, dropLast);
        sampler.SetEpoch(epoch);
        return [.. sampler];
    }

    /// <summary>The way PyTorch writes it: the list, then itself again as often as needed.</summary>
    private static IEnumerable<long> Padded(List<long> order, int total) =>
        Enumerable.Repeat(order, total / order.Count + 1).SelectMany(list => list).Take(total);
}
