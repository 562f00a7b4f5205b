using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Every rank has another number of batches. Reports how many it trained, and a sum of the model that must be the same on all ranks.</summary>
internal static class UnevenInputs
{
    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        Fabric.SeedEverything(3);
        var net = Sequential(Linear(8, 8), BatchNorm1d(8), Linear(8, 2));
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters().ToList(), 0.05));
        var trained = 0;
        fabric.Join(
            [model],
            () =>
            {
                for (; trained < 3 + 4 * fabric.GlobalRank; trained++)
                {
                    using var scope = NewDisposeScope();
                    optimizer.zero_grad();
                    fabric.Backward(model.call(randn(6, 8)).square().mean());
                    optimizer.step();
                }
            },
            throwOnEarlyTermination: settings.Flag("throw"));
        Report.Send(new { rank = fabric.GlobalRank, trained, sum = Sum(net) });
    }

    private static double Sum(Sequential net) =>
        net.state_dict().Values.Where(tensor => tensor.is_floating_point()).Sum(tensor => tensor.to(ScalarType.Float64).abs().sum().item<double>());
}
