// A GAN: a generator draws clothes, a discriminator tells drawn from real. Two models and two optimizers that step in turn.
//
// Added to the base example: the second model. Each has its own Setup. The discriminator takes part in the generator's step, too, but is not
// trained there: NoBackwardSync keeps those gradients of it from being averaged, and zero_grad takes them away.
using static TorchSharp.torch;
using static TorchSharp.torch.nn;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class Gan
{
    private const int Latent = 32, Pixels = 28 * 28;

    public static void Run(ExampleOptions options)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices);
        fabric.Launch();
        Fabric.SeedEverything(42);
        var generatorNet = Sequential(Linear(Latent, 128), ReLU(), Linear(128, 256), ReLU(), Linear(256, Pixels));
        var discriminatorNet = Sequential(Linear(Pixels, 128), LeakyReLU(0.2), Linear(128, 64), LeakyReLU(0.2), Linear(64, 1));
        var (generator, generatorOptimizer) = fabric.Setup(generatorNet, optim.Adam(generatorNet.parameters(), lr: 1e-3, beta1: 0.5));
        var (discriminator, discriminatorOptimizer) = fabric.Setup(discriminatorNet, optim.Adam(discriminatorNet.parameters(), lr: 5e-4, beta1: 0.5));
        using var images = Clothes.TrainingImages(options);
        using var train = fabric.SetupDataLoaders(Clothes.Batches(images, options));
        random.manual_seed(42 + fabric.GlobalRank); // from here on each rank draws other images

        fabric.Print($"before: a drawn image and the real one that is most like it correlate by {Similarity(fabric, generatorNet, images):F2}");
        for (var epoch = 0; epoch < (options.Epochs ?? 6); epoch++)
        {
            var (realScore, drawnScore) = (0.0, 0.0);
            foreach (var batch in train)
            {
                using var scope = NewDisposeScope();
                var real = batch["image"].flatten(1);
                var count = real.shape[0];

                discriminatorOptimizer.zero_grad();
                var drawn = generator.call(randn(count, Latent));
                var (ofReal, ofDrawn) = (discriminator.call(real), discriminator.call(drawn.detach()));
                fabric.Backward(binary_cross_entropy_with_logits(ofReal, ones_like(ofReal)) + binary_cross_entropy_with_logits(ofDrawn, zeros_like(ofDrawn)));
                discriminatorOptimizer.step();

                generatorOptimizer.zero_grad();
                using (fabric.NoBackwardSync(discriminator))
                {
                    var verdict = discriminator.call(drawn);
                    fabric.Backward(binary_cross_entropy_with_logits(verdict, ones_like(verdict)));
                }

                generatorOptimizer.step();
                realScore += ofReal.sigmoid().mean().item<float>() / train.Count;
                drawnScore += ofDrawn.sigmoid().mean().item<float>() / train.Count;
            }

            fabric.Print($"epoch {epoch}: real images are judged real with {fabric.AllReduce(realScore):P0}, drawn ones with {fabric.AllReduce(drawnScore):P0}");
        }

        fabric.Print($"after: a drawn image and the real one that is most like it correlate by {Similarity(fabric, generatorNet, images):F2}");
    }

    /// <summary>How much a drawn image is like the most similar real one: the correlation of their pixels, 1 for equal ones. The mean over 200 drawn images on each rank.</summary>
    private static double Similarity(Fabric fabric, Module<Tensor, Tensor> generator, FashionMnist.FashionMnistDataset images)
    {
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        var (real, _) = images.Select([.. Enumerable.Range(0, 2000).Select(i => (long)i)]);
        var correlations = Normalized(generator.call(randn(200, Latent))).matmul(Normalized(real.flatten(1)).t());
        return fabric.AllReduce(correlations.amax([1]).mean().item<float>());
        static Tensor Normalized(Tensor rows) => normalize(rows - rows.mean([1], keepdim: true));
    }
}
