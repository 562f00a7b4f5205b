using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Trains with batch normalisation over all ranks, rank 0 with few samples; reports how far that is from training alone with the whole batch.</summary>
internal static class WholeBatch
{
    private const int Few = 2, All = 8;

    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        Sequential Net()
        {
            Fabric.SeedEverything(3);
            return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2), nn.BatchNorm1d(2));
        }

        var (alone, net) = (Net(), fabric.ConvertSyncBatchNorm(Net()));
        using var reference = optim.SGD(alone.parameters(), 0.1, momentum: 0.9);
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.1, momentum: 0.9));
        for (var step = 0; step < settings.Number("steps", 5); step++)
        {
            using var scope = NewDisposeScope();
            var batch = ((arange(All * 36, ScalarType.Float32) + step) * 1.3).sin().reshape(All, 1, 6, 6);
            alone.zero_grad();
            Loss(alone.call(batch)).backward();
            reference.step();
            optimizer.zero_grad();
            var part = fabric.GlobalRank == 0 ? batch.narrow(0, 0, Few) : batch.narrow(0, Few, All - Few);
            fabric.Backward(Loss(model.call(part)) * fabric.WorldSize); // the average of the ranks' gradients is then that of the whole batch
            optimizer.step();
        }

        using var gradientsOff = no_grad();
        var expected = alone.state_dict();
        var difference = net.state_dict().Max(entry => (entry.Value.to(ScalarType.Float64) - expected[entry.Key]).abs().max().item<double>());
        Report.Send(new { rank = fabric.GlobalRank, difference, names = net.state_dict().Keys.SequenceEqual(expected.Keys), mean = net.state_dict()["1.running_mean"].data<float>().ToArray() });
    }

    /// <summary>This rank's share of the mean over all samples.</summary>
    private static Tensor Loss(Tensor output) => (output - 0.3).pow(2).sum() / (2.0 * All);
}
