// Gradient accumulation: an optimizer step for every four batches. The memory of a small batch, the steps of a large one; and the gradients
// are averaged over the ranks once for the four, not four times.
//
// Added to the base example: NoBackwardSync around the passes that only accumulate. The forward pass has to be inside, for what counts is
// where that ran.
using static TorchSharp.torch;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class GradientAccumulation
{
    private const int BatchesPerStep = 4;

    public static void Run(ExampleOptions options)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices);
        fabric.Launch();
        Fabric.SeedEverything(42);
        var net = Clothes.Network();
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 2e-3));
        using var images = Clothes.TrainingImages(options);
        using var train = fabric.SetupDataLoaders(Clothes.Batches(images, options));

        var (batches, steps) = (0, 0);
        for (var epoch = 0; epoch < (options.Epochs ?? 3); epoch++)
        {
            var meanLoss = 0.0;
            foreach (var batch in train)
            {
                using var scope = NewDisposeScope();
                var isAccumulating = ++batches % BatchesPerStep != 0;
                using (fabric.NoBackwardSync(model, enabled: isAccumulating))
                {
                    var loss = cross_entropy(model.call(batch["image"]), batch["label"]);
                    fabric.Backward(loss / BatchesPerStep); // the sum of four is then the mean
                    meanLoss += loss.item<float>() / train.Count;
                }

                if (isAccumulating)
                    continue;
                optimizer.step();
                optimizer.zero_grad();
                steps++;
            }

            fabric.Print($"epoch {epoch}: loss {fabric.AllReduce(meanLoss):F3}");
        }

        fabric.Print($"{batches} batches on each rank, {steps} steps, test accuracy {Clothes.TestAccuracy(fabric, net, options):P1}");
    }
}
