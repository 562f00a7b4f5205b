using System.Diagnostics;
using FabricSharp.MultiProcess.Worker.Cases;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Many steps: what lives after the tenth must be all that lives after the last.</summary>
internal static class Leak
{
    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        Fabric.SeedEverything(3);
        var net = new Branching(width: 128); // a gradient that is kept each step would show as 64 MB in a thousand steps
        var (model, optimizer) = fabric.Setup(net, optim.AdamW(net.parameters(), 1e-3));
        for (var step = 0; step < 10; step++)
            Step(fabric, net, model, optimizer, step);
        var tensors = Tensor.TotalCount;
        for (var step = 10; step < settings.Number("warm", 200); step++)
            Step(fabric, net, model, optimizer, step);
        var memory = ResidentBytes();
        for (var step = 0; step < settings.Number("steps", 1000); step++)
            Step(fabric, net, model, optimizer, step);
        Report.Send(new { rank = fabric.GlobalRank, tensors = Tensor.TotalCount - tensors, memory = ResidentBytes() - memory });
    }

    private static void Step(Fabric fabric, Branching net, FabricModule<Tensor, Tensor> model, FabricOptimizer optimizer, int step)
    {
        using var scope = NewDisposeScope();
        net.Chosen = (step + fabric.GlobalRank) % 3;
        optimizer.zero_grad();
        fabric.Backward(model.call(randn(16, 8)).pow(2).mean());
        optimizer.step();
    }

    private static long ResidentBytes()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        using var process = Process.GetCurrentProcess();
        return process.WorkingSet64;
    }
}
