using FabricSharp.Examples.FashionMnist;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;
using static TorchSharp.torch.utils.data;

namespace FabricSharp.Examples.ByFeature;

/// <summary>The task of most examples: which of ten kinds of clothes does a grey image of 28 × 28 points show?</summary>
internal static class Clothes
{
    public const int BatchSize = 64;

    /// <summary>Images (batch, 1, 28, 28) to scores (batch, 10).</summary>
    public static Sequential Network() => Sequential(
        Conv2d(1, 16, 3), ReLU(), MaxPool2d(2),
        Conv2d(16, 32, 3), ReLU(), MaxPool2d(2),
        Flatten(), Linear(32 * 5 * 5, 64), ReLU(), Linear(64, 10));

    public static FashionMnistDataset TrainingImages(ExampleOptions options) => FashionMnistDataset.Read(FashionMnistFiles.Find(options.Data), training: true);

    public static FashionMnistDataset TestImages(ExampleOptions options) => FashionMnistDataset.Read(FashionMnistFiles.Find(options.Data), training: false);

    /// <summary>The first <see cref="ExampleOptions.Images"/> of <paramref name="images"/>, shuffled.</summary>
    public static DataLoader Batches(FashionMnistDataset images, ExampleOptions options) =>
        Batches(images, [.. Enumerable.Range(0, options.Images).Select(i => (long)i)], BatchSize);

    /// <summary>Those of <paramref name="images"/> that <paramref name="which"/> names, shuffled.</summary>
    public static DataLoader Batches(FashionMnistDataset images, long[] which, int batchSize) =>
        new(new Part(images, which), batchSize, shuffle: true, device: CPU, disposeDataset: false);

    /// <summary>The share of test images that <paramref name="net"/> knows. Each rank looks at every N-th, the counts are added up: collective.</summary>
    public static double TestAccuracy(Fabric fabric, Module<Tensor, Tensor> net, ExampleOptions options) => TestAccuracy(fabric, net, net.call, options);

    /// <param name="fabric">The ranks.</param>
    /// <param name="net">What is to be in evaluation mode.</param>
    /// <param name="score">Images to scores.</param>
    /// <param name="options">Where the images are.</param>
    /// <inheritdoc cref="TestAccuracy(Fabric, Module{Tensor, Tensor}, ExampleOptions)"/>
    public static double TestAccuracy(Fabric fabric, Module net, Func<Tensor, Tensor> score, ExampleOptions options)
    {
        using var test = TestImages(options);
        var own = Enumerable.Range(0, (int)test.Count).Where(i => i % fabric.WorldSize == fabric.GlobalRank).Select(i => (long)i).ToArray();
        return fabric.AllReduce(Correct(net, score, test, own), "sum") / test.Count;
    }

    /// <summary>How many of the named images <paramref name="net"/> knows. Local.</summary>
    public static long Correct(Module net, Func<Tensor, Tensor> score, FashionMnistDataset images, long[] which)
    {
        var wasTraining = net.training;
        net.eval();
        var correct = 0L;
        using var gradientsOff = no_grad();
        foreach (var indices in which.Chunk(500))
        {
            using var scope = NewDisposeScope();
            var (batch, labels) = images.Select(indices);
            correct += score(batch).argmax(1).eq(labels).sum().item<long>();
        }

        net.train(wasTraining);
        return correct;
    }

    private sealed class Part(FashionMnistDataset images, long[] which) : Dataset
    {
        public override long Count => which.Length;

        public override Dictionary<string, Tensor> GetTensor(long index) => images.GetTensor(which[index]);
    }
}
