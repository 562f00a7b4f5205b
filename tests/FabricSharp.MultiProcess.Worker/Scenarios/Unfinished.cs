using FabricSharp.DataParallel;
using FabricSharp.MultiProcess.Worker.Cases;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>
/// A branching model without the flag: <c>where</c> says on which rank a branch goes unused (<c>all</c>: on every one), <c>at</c> whether
/// the next forward pass or the optimizer comes first.
/// </summary>
internal static class Unfinished
{
    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        Fabric.SeedEverything(3);
        var net = new Branching();
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
        var branchHere = settings.Text("where") == "all" || settings.Number("where", -1) == fabric.GlobalRank;
        net.Chosen = branchHere ? 0 : -1;
        fabric.Backward(model.call(ones(2, 8)).mean());
        try
        {
            if (settings.Text("at") == "step")
                optimizer.step();
            else
                model.call(ones(2, 8));
            Report.Send(new { rank = fabric.GlobalRank, exception = (string?)null });
        }
        catch (UnfinishedReductionException e)
        {
            Report.Send(new { rank = fabric.GlobalRank, exception = e.GetType().Name, message = e.Message, names = e.ParameterNames, indices = e.ParameterIndices, errorRank = e.Rank, again = ThrowsAgain(optimizer) });
        }
    }

    /// <summary>Whoever swallows the error meets it again: the replicas must not go apart.</summary>
    private static bool ThrowsAgain(FabricOptimizer optimizer)
    {
        try
        {
            optimizer.step();
            return false;
        }
        catch (UnfinishedReductionException)
        {
            return true;
        }
    }
}
