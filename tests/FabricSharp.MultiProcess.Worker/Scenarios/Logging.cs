using FabricSharp.Loggers;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Ranks that log to <c>folder</c>; how they end is <c>end</c>, at rank <c>who</c>.</summary>
internal static class Logging
{
    public static void Run(Settings settings)
    {
        var csv = new CsvLogger(settings.Text("folder"), "csv", 0, flushInterval: TimeSpan.FromMinutes(10));
        var board = new TensorBoardLogger(settings.Text("folder"), "tb", 0, flushInterval: TimeSpan.FromMinutes(10));
        var fabric = new Fabric(accelerator: "cpu", devices: settings.Number("ranks", 2), strategy: "ddp", loggers: [csv, board]);
        fabric.Launch();
        for (var step = 0; step < 7; step++)
        {
            fabric.Log("loss", tensor(step + 0.5), step);
            csv.LogMetrics(new Dictionary<string, double> { ["direct"] = fabric.GlobalRank }, step);
        }

        fabric.Barrier();
        if (fabric.GlobalRank == settings.Number("who", 0))
            End(settings.Text("end"));
        fabric.Barrier();
        Report.Send(new { rank = fabric.GlobalRank, process = Environment.ProcessId });
    }

    private static void End(string how)
    {
        switch (how)
        {
            case "throw":
                throw new InvalidDataException("sample 17 is damaged");
            case "thread":
                var thread = new Thread(() => throw new InvalidDataException("sample 17 is damaged"));
                thread.Start();
                thread.Join();
                break;
            case "exit":
                Environment.Exit(3);
                break;
            case "wait":
                Console.WriteLine($"waits {Environment.ProcessId}");
                using (var never = new ManualResetEvent(false))
                    never.WaitOne(TimeSpan.FromSeconds(30));
                break;
        }
    }
}
