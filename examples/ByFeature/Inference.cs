// Inference: every rank predicts for its share of the data, and all predictions come together in one tensor, in the data's order.
//
// The model is not set up: nothing is trained, so there are no gradients to average, and a plain module does. The loader is, so that each rank
// has its share: rank r of N has items r, r + N, r + 2N, … and some first ones again where they do not divide evenly.
//
// The model needs no training: an image belongs to the kind whose mean image is nearest.
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Examples.ByFeature;

internal static class Inference
{
    public static void Run(ExampleOptions options)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices);
        fabric.Launch();
        var net = NearestMean(options);
        using var test = Clothes.TestImages(options);
        using var loader = new DataLoader(test, batchSize: 500, shuffle: false, device: CPU, disposeDataset: false);
        using var share = fabric.SetupDataLoaders(loader);

        using var gradientsOff = inference_mode();
        var own = new List<Tensor>();
        foreach (var batch in share)
        {
            using var scope = NewDisposeScope();
            own.Add(net.call(batch["image"].flatten(1)).argmax(1).MoveToOuterDisposeScope());
        }

        var predictions = cat(own);
        Console.WriteLine($"rank {fabric.GlobalRank}: {predictions.numel()} predictions");
        var all = fabric.AllGather(predictions).reshape(fabric.WorldSize, -1).t().flatten()[..(int)test.Count]; // by item, without the repeated ones
        var (_, labels) = test.Select([.. Enumerable.Range(0, (int)test.Count).Select(i => (long)i)]);
        fabric.Print($"{all.numel()} predictions, {all.eq(labels).sum().item<long>()} right");
    }

    /// <summary>|x − m|² is smallest where x·m − |m|²/2 is largest: a linear layer.</summary>
    private static Linear NearestMean(ExampleOptions options)
    {
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        using var training = Clothes.TrainingImages(options);
        var (images, labels) = training.Select([.. Enumerable.Range(0, options.Images).Select(i => (long)i)]);
        var means = stack(Enumerable.Range(0, 10).Select(kind => images[labels.eq(kind)].flatten(1).mean([0])));
        var net = nn.Linear(28 * 28, 10);
        net.weight!.copy_(means);
        net.bias!.copy_(means.pow(2).sum(1) / -2);
        return net;
    }
}
