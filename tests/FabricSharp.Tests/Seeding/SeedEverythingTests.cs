using FabricSharp.Tests.Loggers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Seeding;

public sealed class SeedEverythingTests : IDisposable
{
    private const string SeedVariable = "PL_GLOBAL_SEED", WorkersVariable = "PL_SEED_WORKERS";
    private readonly string? _seed = Environment.GetEnvironmentVariable(SeedVariable), _workers = Environment.GetEnvironmentVariable(WorkersVariable);

    public void Dispose()
    {
        Environment.SetEnvironmentVariable(SeedVariable, _seed);
        Environment.SetEnvironmentVariable(WorkersVariable, _workers);
    }

    [Fact]
    public void SeedEverything_Twice_GivesTheSameNumbers()
    {
        Assert.Equal(42, Fabric.SeedEverything(42));
        var first = randn(5).data<float>().ToArray();
        Fabric.SeedEverything(42);
        Assert.Equal(first, randn(5).data<float>().ToArray());
        Fabric.SeedEverything(43);
        Assert.NotEqual(first, randn(5).data<float>().ToArray());
    }

    [Theory]
    [InlineData(true, "1")]
    [InlineData(false, "0")]
    public void SeedEverything_Variables_AreExported(bool workers, string expected)
    {
        Fabric.SeedEverything(uint.MaxValue, workers);
        Assert.Equal("4294967295", Environment.GetEnvironmentVariable(SeedVariable));
        Assert.Equal(expected, Environment.GetEnvironmentVariable(WorkersVariable));
    }

    [Fact]
    public void SeedEverything_NoArgument_TakesTheVariableElseZeroWithAWarning()
    {
        Environment.SetEnvironmentVariable(SeedVariable, "7");
        Assert.Equal(7, Fabric.SeedEverything());
        Environment.SetEnvironmentVariable(SeedVariable, null);
        var text = StandardError.Of(() => Assert.Equal(0, Fabric.SeedEverything()));
        Assert.Contains("No seed found, seed set to 0", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(4294967296)]
    public void SeedEverything_OutOfBounds_IsRefused(long seed) =>
        Assert.Contains("is not in bounds", Assert.Throws<ArgumentOutOfRangeException>(() => Fabric.SeedEverything(seed)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("x")]
    [InlineData("-1")]
    [InlineData("4294967296")]
    public void SeedEverything_VariableIsNoSeed_NamesIt(string text)
    {
        Environment.SetEnvironmentVariable(SeedVariable, text);
        Assert.Contains($"PL_GLOBAL_SEED={text}", Assert.Throws<ArgumentException>(() => Fabric.SeedEverything()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ResetSeed_AfterNumbersWereDrawn_BeginsAnew()
    {
        Fabric.SeedEverything(5);
        var first = randn(3).data<float>().ToArray();
        Fabric.ResetSeed();
        Assert.Equal(first, randn(3).data<float>().ToArray());
    }

    [Fact]
    public void ResetSeed_NoSeed_DoesNothing()
    {
        Environment.SetEnvironmentVariable(SeedVariable, null);
        var before = random.get_rng_state().data<byte>().ToArray();
        Fabric.ResetSeed();
        Assert.Equal(before, random.get_rng_state().data<byte>().ToArray());
    }

    [Fact]
    public void Train_TwiceWithOneSeed_GivesBitwiseTheSameLosses()
    {
        var first = Losses();
        Assert.Equal(first, Losses());
        Assert.Equal(12, first.Distinct().Count());
    }

    private static List<int> Losses()
    {
        Fabric.SeedEverything(11);
        using var fabric = new Fabric("cpu", devices: 1);
        var net = nn.Sequential(nn.Linear(1, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1));
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), 0.01));
        using var items = randn(23, 1);
        using var train = fabric.SetupDataLoaders(new IterableDataLoader(utils.data.TensorDataset(items), 4, shuffle: true));
        var bits = new List<int>();
        for (var epoch = 0; epoch < 2; epoch++)
        {
            foreach (var batch in train)
            {
                optimizer.zero_grad();
                using var loss = model.call(batch[0]).pow(2).mean();
                fabric.Backward(loss);
                optimizer.step();
                bits.Add(BitConverter.SingleToInt32Bits(loss.item<float>()));
            }
        }

        return bits;
    }
}
