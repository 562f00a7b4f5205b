using FabricSharp.Data;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Data;

public sealed class ItemRandomTests : IDisposable
{
    private const string SeedVariable = "PL_GLOBAL_SEED", WorkersVariable = "PL_SEED_WORKERS";
    private readonly string? _seed = Environment.GetEnvironmentVariable(SeedVariable), _workers = Environment.GetEnvironmentVariable(WorkersVariable);

    public void Dispose()
    {
        Environment.SetEnvironmentVariable(SeedVariable, _seed);
        Environment.SetEnvironmentVariable(WorkersVariable, _workers);
    }

    [Fact]
    public void Seeds_OfRanksAndItems_DoNotCollide()
    {
        var seeds = new HashSet<ulong>();
        for (var rank = 0; rank < 100; rank++)
            for (var item = 0; item < 100; item++)
                Assert.True(seeds.Add(new ItemSeeds(1, rank).Of(epoch: 0, item)));
        Assert.DoesNotContain(new ItemSeeds(1, 0).Of(epoch: 1, 0), seeds);
        Assert.DoesNotContain(new ItemSeeds(2, 0).Of(epoch: 0, 0), seeds);
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(4, 0)]
    [InlineData(4, 2)]
    public void Epoch_Seeded_DrawsTheSameWhateverTheWorkers(int workers, int prefetch)
    {
        Fabric.SeedEverything(3);
        var reference = Draw(1, 0);
        Assert.Equal(reference, Draw(workers, prefetch));
        Assert.Equal(20, reference.Distinct().Count()); // items and epochs differ
    }

    [Fact]
    public void Epoch_TwoRanks_DrawDifferently()
    {
        Fabric.SeedEverything(3);
        var draws = Ranks.Run(2, fabric =>
        {
            using var loader = fabric.SetupDataLoaders(Loader(1), useDistributedSampler: false);
            return loader.SelectMany(batch => batch).ToArray();
        });
        Assert.Empty(draws[0].Intersect(draws[1]));
    }

    [Fact]
    public void Epoch_WorkersNotSeeded_HasNoSeed()
    {
        Fabric.SeedEverything(3, workers: false);
        using var fabric = new Fabric("cpu", devices: 1);
        using var loader = fabric.SetupDataLoaders(new DataLoader<long, bool>(new Numbers(3), 1, (_, _) => ItemRandom.Seed is null));
        Assert.All(loader, Assert.True);
        Assert.Same(Random.Shared, ItemRandom.Current);
        Assert.NotEqual(Draw(1, 0), Draw(1, 0));
    }

    [Fact]
    public void Current_Numbers_AreSpreadEvenly() => ItemRandom.Run(5, () =>
    {
        var random = ItemRandom.Current;
        Assert.Same(random, ItemRandom.Current);
        Assert.Equal(0.5, Enumerable.Range(0, 10_000).Average(_ => random.NextDouble()), 0.02);
        Assert.Equal(Enumerable.Range(3, 7), Enumerable.Range(0, 200).Select(_ => random.Next(3, 10)).Distinct().Order());
        var bytes = new byte[4096];
        random.NextBytes(bytes);
        Assert.True(bytes.Distinct().Count() > 250);
        return 0;
    });

    private static double[] Draw(int workers, int prefetch)
    {
        using var fabric = new Fabric("cpu", devices: 1);
        using var loader = fabric.SetupDataLoaders(Loader(workers));
        loader.Prefetch = prefetch;
        return [.. loader.SelectMany(batch => batch), .. loader.SelectMany(batch => batch)];
    }

    private static DataLoader<double, double[]> Loader(int workers) => new(new Noise(), 3, (items, _) => [.. items], num_worker: workers);

    private sealed class Noise : utils.data.Dataset<double>
    {
        public override long Count => 10;

        public override double GetTensor(long index) => ItemRandom.Current.NextDouble();
    }
}
