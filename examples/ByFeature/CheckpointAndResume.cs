// Checkpoint and resume: a run that is stopped after two epochs and started again ends as one that ran in one go, to the last digit.
//
// Added to the base example: Save after each epoch, Load at the start if there is a checkpoint, and SetEpoch, because the order of the data depends
// on the epoch. All are collective: rank 0 writes, every rank reads. Run it twice:
//
//   dotnet run -c Release -- checkpoint-and-resume --epochs 2
//   dotnet run -c Release -- checkpoint-and-resume --epochs 4
using static TorchSharp.torch;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class CheckpointAndResume
{
    public static void Run(ExampleOptions options)
    {
        var path = Path.Combine(options.Output, "checkpoint");
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices);
        fabric.Launch();
        Fabric.SeedEverything(42);
        var net = Clothes.Network();
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 2e-3));
        using var images = Clothes.TrainingImages(options);
        using var train = fabric.SetupDataLoaders(Clothes.Batches(images, options));

        var state = new Dictionary<string, object?> { ["model"] = model, ["optimizer"] = optimizer, ["epochs"] = 0, ["loss"] = 0.0 };
        if (Directory.Exists(path))
        {
            fabric.Load(path, state);
            fabric.Print($"resumed after {state["epochs"]} epochs, loss {state["loss"]:F5}");
        }

        for (var epoch = (int)state["epochs"]!; epoch < (options.Epochs ?? 2); epoch++)
        {
            train.SetEpoch(epoch);
            var loss = 0.0;
            foreach (var batch in train)
            {
                using var scope = NewDisposeScope();
                optimizer.zero_grad();
                var error = cross_entropy(model.call(batch["image"]), batch["label"]);
                fabric.Backward(error);
                optimizer.step();
                loss += error.item<float>() / train.Count;
            }

            state["epochs"] = epoch + 1;
            state["loss"] = fabric.AllReduce(loss);
            fabric.Save(path, state);
            fabric.Print($"epoch {epoch}: loss {state["loss"]:F5}, saved");
        }

        fabric.Print($"{state["epochs"]} epochs, loss {state["loss"]:R}, test accuracy {Clothes.TestAccuracy(fabric, net, options):P1}");
    }
}
