// Early stopping: training ends when validation has not improved for two epochs.
//
// Added to the base example: rank 0 alone validates and decides, and Broadcast tells all. If each rank decided for itself, they could
// disagree; one would stop while the other waits for its gradients.
using static TorchSharp.torch;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class EarlyStopping
{
    private const int Patience = 2, ValidationImages = 2_000;

    public static void Run(ExampleOptions options)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices);
        fabric.Launch();
        Fabric.SeedEverything(42);
        var net = Clothes.Network();
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 5e-3));
        using var images = Clothes.TrainingImages(options);
        using var train = fabric.SetupDataLoaders(Clothes.Batches(images, options));
        var validation = Enumerable.Range((int)images.Count - ValidationImages, ValidationImages).Select(i => (long)i).ToArray(); // not trained on

        var (best, bestEpoch, epoch) = (0.0, 0, 0);
        for (; epoch < (options.Epochs ?? 20); epoch++)
        {
            foreach (var batch in train)
            {
                using var scope = NewDisposeScope();
                optimizer.zero_grad();
                fabric.Backward(cross_entropy(model.call(batch["image"]), batch["label"]));
                optimizer.step();
            }

            var stop = false;
            if (fabric.IsGlobalZero)
            {
                var accuracy = (double)Clothes.Correct(net, net.call, images, validation) / ValidationImages; // net, not model: one rank alone
                if (accuracy > best)
                    (best, bestEpoch) = (accuracy, epoch);
                stop = epoch - bestEpoch >= Patience;
                Console.WriteLine($"epoch {epoch}: validation accuracy {accuracy:P1}{(stop ? ", stop" : "")}");
            }

            if (fabric.Broadcast(stop))
                break;
        }

        Console.WriteLine($"rank {fabric.GlobalRank} ended after epoch {epoch}");
        fabric.Print($"best: {best:P1} after epoch {bestEpoch}");
    }
}
