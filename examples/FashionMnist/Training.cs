using System.Diagnostics;
using System.Text.Json;
using FabricSharp.DataParallel;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.FashionMnist;

/// <summary>The loop. What Fabric adds to a plain TorchSharp loop is marked.</summary>
internal static class Training
{
    private const int StepsPerReport = 25;

    public static int Run(TrainingOptions options)
    {
        options.Validate();
        var folder = FashionMnistFiles.Find(options.Data);
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices, strategy: options.Choice()); // Fabric
        fabric.Launch();                                                                                   // Fabric
        Fabric.SeedEverything(options.Seed);                                                               // Fabric

        var net = new BranchingNet((int)options.Seed + fabric.GlobalRank);
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 2e-3));                // Fabric
        using var dataset = FashionMnistDataset.Read(folder, training: true);
        using var loader = new DataLoader(dataset, options.BatchSize, shuffle: true, device: CPU);
        using var train = fabric.SetupDataLoaders(loader);                                                 // Fabric

        var totalSteps = (int)Math.Min(options.MaxSteps ?? int.MaxValue, options.Epochs * (long)train.Count);
        var (steps, loss, seconds) = (0, 0.0, 0.0);
        var curve = new List<double>();
        TrainingDisplay.Show(fabric.IsGlobalZero, totalSteps, display =>
        {
            var clock = Stopwatch.StartNew();
            while (steps < totalSteps)
                foreach (var batch in train)
                {
                    using var scope = NewDisposeScope();
                    optimizer.zero_grad();
                    var scores = model.call(batch["image"]);
                    var error = cross_entropy(scores, batch["label"]);
                    fabric.Backward(error);                                                                // Fabric: not error.backward()
                    optimizer.step();

                    if (++steps % StepsPerReport == 0 || steps == totalSteps)
                    {
                        loss = fabric.AllReduce(error.item<float>());                                      // Fabric: the mean over the ranks
                        curve.Add(Math.Round(loss, 4));
                        var accuracy = fabric.AllReduce(Correct(scores, batch["label"]) / (double)batch["label"].shape[0]);
                        display.Report(steps, loss, accuracy, steps * (double)options.BatchSize * fabric.WorldSize / clock.Elapsed.TotalSeconds);
                    }

                    if (steps == totalSteps)
                        break;
                }

            seconds = clock.Elapsed.TotalSeconds;
        });

        var testAccuracy = Evaluate(fabric, net, folder);
        if (fabric.IsGlobalZero)
            Summarize(options, fabric.WorldSize, steps, steps * (double)options.BatchSize * fabric.WorldSize / seconds, curve, testAccuracy, model.UnusedParameters);
        return 0;
    }

    /// <summary>Accuracy on the test images: each rank looks at every N-th, the counts are added up.</summary>
    private static double Evaluate(Fabric fabric, BranchingNet net, string folder)
    {
        net.eval();
        using var test = FashionMnistDataset.Read(folder, training: false);
        using var gradientsOff = no_grad();
        var correct = 0L;
        foreach (var indices in Enumerable.Range(0, (int)test.Count).Where(i => i % fabric.WorldSize == fabric.GlobalRank).Select(i => (long)i).Chunk(500))
        {
            using var scope = NewDisposeScope();
            var (images, labels) = test.Select(indices);
            correct += Correct(net.call(images), labels);
        }

        return fabric.AllReduce(correct, "sum") / test.Count;
    }

    private static long Correct(Tensor scores, Tensor labels)
    {
        using var scope = NewDisposeScope();
        return scores.argmax(1).eq(labels).sum().item<long>();
    }

    private static void Summarize(TrainingOptions options, int worldSize, int steps, double samplesPerSecond, List<double> losses, double testAccuracy, UnusedParameterReport unused)
    {
        Console.WriteLine($"{worldSize} process{(worldSize == 1 ? "" : "es")}, {steps} steps, {samplesPerSecond:N0} images/s: loss {losses[^1]:F3}, test accuracy {testAccuracy:P1}.");
        if (worldSize > 1)
            Console.WriteLine(unused);                                                                     // Fabric: who was left out, and how often
        if (!options.Json)
            return;
        Console.WriteLine(JsonSerializer.Serialize(new
        {
            strategy = options.Devices == "1" ? "auto" : options.Strategy,
            hook = options.Hook,
            world_size = worldSize,
            steps,
            samples_per_second = Math.Round(samplesPerSecond, 1),
            train_loss = losses[^1],
            train_losses = losses,
            test_accuracy = Math.Round(testAccuracy, 5),
            unused_parameters = unused.Parameters.Select(parameter => parameter.Name),
        }));
    }
}
