// K-fold cross validation: the data in five parts, five models, each validated on the part that it was not trained on.
//
// Added to the base example: a loop around it. Each fold sets up a model and a loader of its own; disposing the model ends the averaging of
// its gradients. All ranks form the same folds: from a seed that is theirs alone.
using static TorchSharp.torch;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class KFold
{
    private const int Folds = 5;

    public static void Run(ExampleOptions options)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices);
        fabric.Launch();
        Fabric.SeedEverything(42);
        using var images = Clothes.TrainingImages(options);
        var order = Enumerable.Range(0, options.Images).Select(i => (long)i).ToArray();
        new Random(42).Shuffle(order);

        var accuracies = new double[Folds];
        for (var fold = 0; fold < Folds; fold++)
        {
            var net = Clothes.Network();
            var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 3e-3));
            using var replica = model;
            var inFold = order.ToLookup(image => image % Folds == fold);
            using var train = fabric.SetupDataLoaders(Clothes.Batches(images, [.. inFold[false]], batchSize: 32));
            for (var epoch = 0; epoch < (options.Epochs ?? 1); epoch++)
                foreach (var batch in train)
                {
                    using var scope = NewDisposeScope();
                    optimizer.zero_grad();
                    fabric.Backward(cross_entropy(model.call(batch["image"]), batch["label"]));
                    optimizer.step();
                }

            var own = inFold[true].Where((_, i) => i % fabric.WorldSize == fabric.GlobalRank).ToArray(); // the ranks share the validation
            accuracies[fold] = fabric.AllReduce(Clothes.Correct(net, net.call, images, own), "sum") / inFold[true].Count();
            fabric.Print($"fold {fold}: {inFold[false].Count()} images to train on, accuracy of the other {inFold[true].Count()}: {accuracies[fold]:P1}");
        }

        var mean = accuracies.Average();
        fabric.Print($"accuracy {mean:P1} ± {Math.Sqrt(accuracies.Average(accuracy => Math.Pow(accuracy - mean, 2))):P1}");
    }
}
