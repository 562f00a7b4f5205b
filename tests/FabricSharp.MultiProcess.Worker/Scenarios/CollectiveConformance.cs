using FabricSharp.Tests.Collectives.Cases;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Every conformance case of process groups, one after the other on one group whose ranks are processes.</summary>
internal static class CollectiveConformance
{
    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        foreach (var (_, body) in CollectiveCases.All)
            body(fabric.Strategy.Group!);
        Report.Send(new { rank = fabric.GlobalRank, backend = fabric.Strategy.Group!.Backend, cases = CollectiveCases.All.Count });
        fabric.Barrier();
    }
}
