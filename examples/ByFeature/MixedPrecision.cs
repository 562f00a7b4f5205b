// Mixed precision: parameters stay float32, the forward pass computes in bfloat16 where that is safe. Half the memory for activations; whether it is
// faster depends on the processor, so compare:
//
//   dotnet run -c Release -- mixed-precision --precision 32-true
//   dotnet run -c Release -- mixed-precision --precision bf16-mixed
//
// Added to the base example: precision: for Fabric. Nothing else changes: the scores that come out of the model are float32 again.
using System.Diagnostics;
using static TorchSharp.torch;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class MixedPrecision
{
    public static void Run(ExampleOptions options)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices, precision: options.Precision);
        fabric.Launch();
        Fabric.SeedEverything(42);
        var net = Clothes.Network();
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 2e-3));
        using var images = Clothes.TrainingImages(options);
        using var train = fabric.SetupDataLoaders(Clothes.Batches(images, options));
        var (loss, seconds) = (0.0, 0.0);
        for (var epoch = 0; epoch < (options.Epochs ?? 2); epoch++)
        {
            var clock = Stopwatch.StartNew();
            loss = 0;
            foreach (var batch in train)
            {
                using var scope = NewDisposeScope();
                optimizer.zero_grad();
                var error = cross_entropy(model.call(batch["image"]), batch["label"]);
                fabric.Backward(error);
                optimizer.step();
                loss += error.item<float>() / train.Count;
            }

            seconds = clock.Elapsed.TotalSeconds; // of the last epoch: the first one warms up
        }

        fabric.Print($"{fabric.Precision}: {seconds:F2} s for the last epoch, loss {fabric.AllReduce(loss):F4}, test accuracy {Clothes.TestAccuracy(fabric, net, options):P1}, parameters {net.parameters().First().dtype}");
    }
}
