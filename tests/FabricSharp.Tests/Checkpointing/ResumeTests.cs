using FabricSharp.Checkpointing;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

/// <summary>A run that is resumed has the losses of the one that was not interrupted, bit for bit.</summary>
public sealed class ResumeTests : IDisposable
{
    private readonly string? _seed = Environment.GetEnvironmentVariable("PL_GLOBAL_SEED");

    public void Dispose() => Environment.SetEnvironmentVariable("PL_GLOBAL_SEED", _seed);

    [Theory]
    [InlineData("32-true", 0)]
    [InlineData("32-true", 7)]
    [InlineData("bf16-mixed", 9)]
    [InlineData("bf16-mixed", 10)] // the last batch of an epoch
    public void Resume_OneRankDropoutShuffledScheduled_IsBitwiseTheUninterruptedRun(string precision, int saveAt)
    {
        using var folder = new TemporaryFolder();
        var whole = RunOne(folder, precision, saveAt, resume: false);
        var resumed = RunOne(folder, precision, saveAt: -1, resume: true);
        Assert.Equal(15, whole.Count);
        Assert.Equal(whole.Skip(saveAt + 1), resumed);
        Assert.Equal(whole.Count, whole.Distinct().Count());
    }

    [Fact]
    public void Resume_TwoRanks_IsBitwiseTheUninterruptedRun()
    {
        using var folder = new TemporaryFolder();
        var whole = RunTwo(folder, saveAt: 4, resume: false);
        var resumed = RunTwo(folder, saveAt: -1, resume: true);
        Assert.Equal(whole.Skip(5), resumed);
    }

    [Fact]
    public void Resume_OnAnotherNumberOfRanks_VisitsTheRestOfTheEpochOnceAndWarnsOfTheGenerators()
    {
        using var folder = new TemporaryFolder();
        Environment.SetEnvironmentVariable("PL_GLOBAL_SEED", "11");
        var seen = new List<long>();
        OnTwoRanks(fabric =>
        {
            var loader = fabric.SetupDataLoaders(Loader(batchSize: 2));
            foreach (var batch in loader)
            {
                lock (seen)
                    seen.AddRange(batch["index"].data<long>().ToArray());
                if (loader.State.Batches == 3)
                {
                    fabric.Save(folder["c"], new() { ["loader"] = loader, ["random"] = new RandomState() });
                    break;
                }
            }

            return 0;
        });
        using var one = Checkpoints.OneRank();
        var alone = one.SetupDataLoaders(Loader(batchSize: 4));
        var before = Checkpoints.Fingerprint(get_rng_state());
        one.Load(folder["c"], new() { ["loader"] = alone, ["random"] = new RandomState() });
        Assert.Equal(before, Checkpoints.Fingerprint(get_rng_state()));
        Assert.Equal(3, alone.State.Batches); // 3 batches of 2 on 2 ranks are 3 batches of 4
        foreach (var batch in alone)
            seen.AddRange(batch["index"].data<long>().ToArray());
        Assert.Equal(Enumerable.Range(0, 20).Select(i => (long)i), seen.Order());
    }

    private static List<float> RunOne(TemporaryFolder folder, string precision, int saveAt, bool resume)
    {
        using var fabric = new Fabric(accelerator: "cpu", devices: 1, precision: precision);
        fabric.Launch();
        Fabric.SeedEverything(7);
        return Run(fabric, folder["c"], dropout: 0.3, batchSize: 4, saveAt, resume);
    }

    private static List<float> RunTwo(TemporaryFolder folder, int saveAt, bool resume)
    {
        Fabric.SeedEverything(7);
        return OnTwoRanks(fabric => Run(fabric, folder["c"], dropout: 0, batchSize: 3, saveAt, resume)); // the ranks share one generator
    }

    private static List<float> Run(Fabric fabric, string path, double dropout, int batchSize, int saveAt, bool resume)
    {
        using var net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(dropout), nn.Linear(8, 1));
        foreach (var parameter in net.parameters())
            using (no_grad())
                parameter.fill_(0.1);
        var (model, optimizer) = fabric.Setup(net, optim.AdamW(net.parameters(), 0.02));
        var scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 12);
        var loader = fabric.SetupDataLoaders(Loader(batchSize));
        var state = new Dictionary<string, object?>
        {
            ["model"] = model, ["optimizer"] = optimizer, ["scheduler"] = scheduler, ["loader"] = loader, ["random"] = new RandomState(), ["step"] = 0,
        };
        if (resume)
        {
            rand(17);
            fabric.Load(path, state);
        }

        var losses = new List<float>();
        var step = resume ? (int)state["step"]! + 1 : 0;
        for (var epoch = loader.State.Epoch; epoch < 3; epoch++)
            foreach (var batch in loader)
            {
                using var scope = NewDisposeScope();
                optimizer.zero_grad();
                var loss = (model.call(batch["x"]) - 1).pow(2).mean();
                fabric.Backward(loss);
                optimizer.step();
                scheduler.step();
                losses.Add(loss.item<float>());
                state["step"] = step;
                if (step++ == saveAt)
                    fabric.Save(path, state);
            }

        return losses;
    }

    private static DataLoader Loader(int batchSize) => utils.data.DataLoader(new Points(), batchSize, shuffle: true);

    private static T OnTwoRanks<T>(Func<Fabric, T> function)
    {
        using var fabric = new Fabric(accelerator: "cpu", devices: 2, strategy: "ddp_notebook");
        return fabric.Launch(function);
    }

    private sealed class Points : utils.data.Dataset
    {
        public override long Count => 20;

        public override Dictionary<string, Tensor> GetTensor(long index) => new() { ["x"] = full([3], index * 0.05f).sin(), ["index"] = tensor(index) };
    }
}
