using System.Collections.Concurrent;
using FabricSharp.Data;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Data;

public sealed class SetupDataLoadersTests : IDisposable
{
    private const string SeedVariable = "PL_GLOBAL_SEED";
    private readonly string? _seed = Environment.GetEnvironmentVariable(SeedVariable);

    public void Dispose() => Environment.SetEnvironmentVariable(SeedVariable, _seed);

    [Fact]
    public void SetupDataLoaders_TwoRanks_ShareEachEpochByTheGlobalSeed()
    {
        var epochs = new ConcurrentDictionary<(int Rank, int Epoch), List<long>>();
        Fabric.SeedEverything(1);

        TwoRanks().Launch(fabric =>
        {
            using var train = fabric.SetupDataLoaders(new DataLoader(new NumberTensors(8), 3, shuffle: true));
            for (var epoch = 0; epoch < 2; epoch++)
                epochs[(fabric.GlobalRank, epoch)] = Items(train);
        });

        Assert.Equal([5, 2, 7, 1], epochs[(0, 0)]);
        Assert.Equal([4, 6, 3, 0], epochs[(1, 0)]);
        Assert.NotEqual(epochs[(0, 0)], epochs[(0, 1)]);
        Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7], epochs[(0, 1)].Concat(epochs[(1, 1)]).Order());
    }

    [Fact]
    public void SetupDataLoaders_NoDistributedSampler_GivesEveryRankEverything()
    {
        var items = new ConcurrentDictionary<int, List<long>>();

        TwoRanks().Launch(fabric =>
        {
            using var loader = fabric.SetupDataLoaders(new DataLoader(new NumberTensors(5), 2), useDistributedSampler: false);
            items[fabric.GlobalRank] = Items(loader);
        });

        Assert.All(items.Values, all => Assert.Equal([0, 1, 2, 3, 4], all));
        Assert.Equal(2, items.Count);
    }

    /// <summary>TorchSharp's iterable data sets have a count and an index: they are shared like any other.</summary>
    [Fact]
    public void SetupDataLoaders_IterableDataset_IsShared()
    {
        using var values = arange(6, ScalarType.Int64);
        var items = Ranks.Run(2, fabric =>
        {
            using var loader = fabric.SetupDataLoaders(new IterableDataLoader(utils.data.TensorDataset(values), 2));
            return loader.SelectMany(batch => batch[0].data<long>().ToArray()).ToArray();
        });

        Assert.Equal([0, 2, 4], items[0]);
        Assert.Equal([1, 3, 5], items[1]);
    }

    [Fact]
    public void SetupDataLoaders_NoSeed_ShufflesByZero()
    {
        Environment.SetEnvironmentVariable(SeedVariable, null);
        using var fabric = new Fabric("cpu", devices: 1);

        using var loader = fabric.SetupDataLoaders(Numbers.Loader(9, 4, shuffle: true));

        Assert.Equal(new DistributedSampler(9, 1, 0, seed: 0), loader.SelectMany(batch => batch));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void SetupDataLoaders_MoveToDevice_SaysWhere(bool move)
    {
        using var fabric = new Fabric("cpu", devices: 1);

        using var loader = fabric.SetupDataLoaders(Numbers.Loader(4, 2), moveToDevice: move);

        Assert.Equal(move ? CPU : null, loader.Device);
    }

    [Fact]
    public void SetupDataLoaders_SeveralLoaders_ComeBackInOrder()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var (a, b, c) = (Numbers.Loader(4, 2), new DataLoader(new NumberTensors(4), 2), Numbers.Loader(6, 2));
        var (d, e, f) = (Numbers.Loader(4, 2), new DataLoader(new NumberTensors(4), 2), new DataLoader(new NumberTensors(6), 2));

        var (first, second) = fabric.SetupDataLoaders(a, b);
        var (third, fourth, fifth) = fabric.SetupDataLoaders(c, d, e);
        var array = fabric.SetupDataLoaders(new List<DataLoader> { f });

        Assert.Equal([a, c, d], new[] { first, third, fourth }.Select(loader => loader.Loader));
        Assert.Equal([b, e, f], new[] { second, fifth, array[0] }.Select(loader => loader.Loader));
    }

    [Fact]
    public void SetupDataLoaders_BeforeLaunch_ThrowsAndCanBeRepeated()
    {
        using var fabric = TwoRanks();
        var loader = Numbers.Loader(4, 2);

        for (var attempt = 0; attempt < 2; attempt++)
            Assert.Contains(".Launch()", Assert.Throws<InvalidOperationException>(() => fabric.SetupDataLoaders(loader)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void SetupDataLoaders_SetUpAlready_Throws()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var loader = Numbers.Loader(4, 2);
        fabric.SetupDataLoaders(loader);

        Assert.Contains("only once", Assert.Throws<ArgumentException>(() => fabric.SetupDataLoaders(loader)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(16, 4, 3)]
    [InlineData(16, 1, 15)]
    [InlineData(2, 2, 1)]
    [InlineData(1, 8, 1)]
    public void SuggestedMaxNumWorkers_Always_LeavesCoresForTheRanks(int cores, int ranks, int expected)
    {
        Assert.Equal(expected, Fabric.SuggestedMaxNumWorkers(ranks, cores));
        Assert.Throws<ArgumentOutOfRangeException>(() => Fabric.SuggestedMaxNumWorkers(0));
    }

    [Fact]
    public void SetupDataLoaders_Null_Throws()
    {
        using var fabric = new Fabric("cpu", devices: 1);

        Assert.Throws<ArgumentNullException>(() => fabric.SetupDataLoaders((DataLoader)null!));
        Assert.Throws<ArgumentNullException>(() => fabric.SetupDataLoaders((List<DataLoader>)null!));
    }

    private static Fabric TwoRanks() => new(accelerator: "cpu", devices: 2, strategy: "ddp_notebook");

    private static List<long> Items(FabricDataLoader<Dictionary<string, Tensor>, Dictionary<string, Tensor>> loader) =>
        [.. loader.SelectMany(batch => batch["data"].data<long>().ToArray())];
}
