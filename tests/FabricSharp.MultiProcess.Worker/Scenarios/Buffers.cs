using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Running statistics: rank 0's are every rank's before a forward pass, unless that is switched off.</summary>
internal static class Buffers
{
    public static void Run(Settings settings)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: settings.Number("ranks", 2), strategy: new Strategies.DDPStrategy(broadcastBuffers: settings.Flag("broadcast")));
        fabric.Launch();
        var norm = BatchNorm1d(4);
        var (model, optimizer) = fabric.Setup(Sequential(Linear(4, 4), norm), optim.SGD(norm.parameters(), 0.1));
        for (var step = 0; step < 3; step++)
        {
            optimizer.zero_grad();
            fabric.Backward(model.call(randn(16, 4) + fabric.GlobalRank).pow(2).mean());
            optimizer.step();
        }

        model.call(zeros(16, 4) + 1); // the same input on every rank: statistics are equal afterwards where they were before
        Report.Send(new { rank = fabric.GlobalRank, mean = norm.running_mean!.data<float>().ToArray(), batches = norm.num_batches_tracked!.item<long>() });
    }
}
