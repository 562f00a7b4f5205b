// A strategy of your own: settings that several programs share, under a name that configuration files and LT_STRATEGY can say.
//
// Added to the base example: StrategyRegistry.Register before new Fabric. The factory makes a new object each time, for a strategy belongs to one
// Fabric.
using FabricSharp.Strategies;
using static TorchSharp.torch;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class CustomStrategy
{
    private const string Name = "ddp_impatient";

    public static void Run(ExampleOptions options)
    {
        StrategyRegistry.Register(
            Name,
            () => new DDPStrategy(findUnusedParameters: true, bucketCapMb: 1, timeout: TimeSpan.FromSeconds(30)),
            "Small buckets, unused parameters allowed, and no waiting for half an hour when a rank hangs.");
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices, strategy: Name);
        fabric.Launch();
        Fabric.SeedEverything(42);
        var strategy = (DDPStrategy)fabric.Strategy;
        fabric.Print($"{Name}: buckets of {strategy.BucketCapMb} MiB, waits of at most {strategy.Timeout.TotalSeconds} s, unused parameters {(strategy.FindUnusedParameters ? "allowed" : "an error")}");
        fabric.Print($"known names: {string.Join(", ", StrategyRegistry.Available.Where(name => !name.Contains("unused", StringComparison.Ordinal)))}");

        var net = Clothes.Network();
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 2e-3));
        using var images = Clothes.TrainingImages(options);
        using var train = fabric.SetupDataLoaders(Clothes.Batches(images, options));
        for (var epoch = 0; epoch < (options.Epochs ?? 1); epoch++)
            foreach (var batch in train)
            {
                using var scope = NewDisposeScope();
                optimizer.zero_grad();
                fabric.Backward(cross_entropy(model.call(batch["image"]), batch["label"]));
                optimizer.step();
            }

        fabric.Print($"test accuracy {Clothes.TestAccuracy(fabric, net, options):P1}");
    }
}
