using System.Diagnostics;
using System.Text.Json;
using static TorchSharp.torch;

namespace FabricSharp.Scaling;

/// <summary>How long a user waits for the first step: from the start of rank 0's process, with everything that a program does once.</summary>
internal static class StartBenchmark
{
    public static void Run(int ranks)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: ranks, strategy: "ddp");
        fabric.Launch();
        var net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10));
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.01));
        fabric.Backward(model.call(randn(8, 64)).pow(2).mean());
        optimizer.step();
        using var process = Process.GetCurrentProcess();
        var seconds = (DateTime.Now - process.StartTime).TotalSeconds;
        if (!fabric.IsGlobalZero)
            return;
        Console.Error.WriteLine($"{ranks} ranks: {seconds:F2} s");
        Console.WriteLine(JsonSerializer.Serialize(new { benchmark = "start", ranks, seconds }));
    }
}
