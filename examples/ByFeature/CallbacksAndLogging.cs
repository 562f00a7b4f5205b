// Callbacks and logging: the loop says what happens, others act on it. Metrics go to a CSV file and to TensorBoard, from rank 0 alone.
//
// Added to the base example: two loggers and two callbacks for Fabric, Log and Call in the loop. A callback is an object of any class; Call
// finds its methods by name and gives each the arguments that it has parameters for.
using System.Diagnostics;
using FabricSharp.Loggers;
using static TorchSharp.torch;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class CallbacksAndLogging
{
    public static void Run(ExampleOptions options)
    {
        using var csv = new CsvLogger(options.Output, name: "csv");
        using var tensorBoard = new TensorBoardLogger(options.Output, name: "tensorboard");
        var fabric = new Fabric(
            accelerator: "cpu", devices: options.Devices,
            callbacks: [new SlowestStep(), new BestLoss()],
            loggers: [csv, tensorBoard]);
        fabric.Launch();
        Fabric.SeedEverything(42);
        var net = Clothes.Network();
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 2e-3));
        using var images = Clothes.TrainingImages(options);
        using var train = fabric.SetupDataLoaders(Clothes.Batches(images, options));
        foreach (var logger in fabric.Loggers)
            logger.LogHyperparameters(new Dictionary<string, object?> { ["lr"] = 2e-3, ["batch"] = Clothes.BatchSize, ["ranks"] = fabric.WorldSize });

        var step = 0;
        for (var epoch = 0; epoch < (options.Epochs ?? 2); epoch++)
        {
            foreach (var batch in train)
            {
                using var scope = NewDisposeScope();
                fabric.Call("OnStepStart");
                optimizer.zero_grad();
                var error = cross_entropy(model.call(batch["image"]), batch["label"]);
                fabric.Backward(error);
                optimizer.step();
                var loss = fabric.AllReduce(error.item<float>());
                fabric.Log("train/loss", loss, step);
                fabric.Call("OnStepEnd", new { loss, step });
                step++;
            }

            var accuracy = Clothes.TestAccuracy(fabric, net, options);
            fabric.LogDict(new Dictionary<string, double> { ["test/accuracy"] = accuracy, ["epoch"] = epoch }, step);
            fabric.Print($"epoch {epoch}: test accuracy {accuracy:P1}");
        }

        fabric.Call("OnTrainingEnd", new { fabric });
        csv.Save();
        tensorBoard.Save();
        fabric.Print($"{step} rows in {Path.Combine(csv.LogDirectory, "metrics.csv")}");
        fabric.Print($"events in {tensorBoard.LogDirectory}");
    }

    /// <summary>Asks for the number of the step only.</summary>
    private sealed class SlowestStep
    {
        private readonly Stopwatch _clock = new();
        private TimeSpan _slowest;
        private int _step;

        public void OnStepStart() => _clock.Restart();

        public void OnStepEnd(int step)
        {
            if (step > 0 && _clock.Elapsed > _slowest) // the first also warms up
                (_slowest, _step) = (_clock.Elapsed, step);
        }

        public void OnTrainingEnd(Fabric fabric) => fabric.Print($"slowest step: {_slowest.TotalMilliseconds:F1} ms, step {_step}");
    }

    /// <summary>Has no method OnStepStart: Call passes it over.</summary>
    private sealed class BestLoss
    {
        private (double Loss, int Step) _best = (double.PositiveInfinity, 0);

        public void OnStepEnd(double loss, int step) => _best = loss < _best.Loss ? (loss, step) : _best;

        public void OnTrainingEnd(Fabric fabric) => fabric.Print($"lowest loss: {_best.Loss:F3}, step {_best.Step}");
    }
}
