using FabricSharp.MultiProcess.Worker.Cases;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>
/// A program that makes <c>count</c> Fabrics, one after the other, and trains with each. Rank <c>late</c> takes its time at the end of each, so that the others come to the next launch while it
/// still has the one before. Without <c>dispose</c>=true none is disposed.
/// </summary>
internal static class SeveralFabrics
{
    private const int Steps = 3;

    public static void Run(Settings settings)
    {
        var results = new List<double[]>[settings.Number("ranks", 2)];
        for (var i = 0; i < settings.Number("count", 3); i++)
        {
            var fabric = settings.MakeFabric();
            var number = i;
            if (settings.Flag("threads"))
                fabric.Launch(rank => Train(rank, settings, number, results));
            else
                TrainAfterLaunch(fabric, settings, number, results);
            if (settings.Flag("dispose"))
                fabric.Dispose();
        }

        foreach (var (result, rank) in results.Select((result, rank) => (result, rank)).Where(pair => pair.result is not null))
            Report.Send(new { rank, sums = result.Select(pair => pair[0]), weights = result.Select(pair => pair[1]) });
    }

    private static void TrainAfterLaunch(Fabric fabric, Settings settings, int number, List<double[]>[] results)
    {
        fabric.Launch();
        Train(fabric, settings, number, results);
    }

    private static void Train(Fabric fabric, Settings settings, int number, List<double[]>[] results)
    {
        random.manual_seed(100 * number + fabric.GlobalRank);
        using var net = new Branching { Chosen = -1 };
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
        for (var step = 0; step < Steps; step++)
        {
            using var scope = NewDisposeScope();
            optimizer.zero_grad();
            fabric.Backward(model.call(full(2, 8, fabric.GlobalRank + 1f)).mean());
            optimizer.step();
        }

        var weight = net.parameters().Sum(parameter => parameter.detach().to(ScalarType.Float64).sum().ToDouble());
        (results[fabric.GlobalRank] ??= []).Add([fabric.AllReduce((number + 1.0) * (fabric.GlobalRank + 1), "sum"), weight]);
        if (fabric.GlobalRank == settings.Number("late", -1))
        {
            using var never = new ManualResetEventSlim();
            never.Wait(TimeSpan.FromMilliseconds(300));
        }
    }
}
