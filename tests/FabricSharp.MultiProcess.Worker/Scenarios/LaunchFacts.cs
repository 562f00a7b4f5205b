namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>What a rank sees of how it was started.</summary>
internal static class LaunchFacts
{
    public static void Echo(Settings settings)
    {
        var fabric = settings.Launch();
        fabric.Barrier();
        Report.Send(new
        {
            rank = fabric.GlobalRank,
            localRank = fabric.LocalRank,
            nodeRank = fabric.NodeRank,
            sum = fabric.AllReduce(fabric.GlobalRank + 1.0, "sum"),
            world = fabric.WorldSize,
            process = Environment.ProcessId,
            arguments = Environment.GetCommandLineArgs()[1..],
            threads = TorchSharp.torch.get_num_threads(),
            variables = new[] { "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "OMP_NUM_THREADS" }.ToDictionary(name => name, Environment.GetEnvironmentVariable),
        });
        Console.Error.WriteLine($"a word on standard error from rank {fabric.GlobalRank}");
        fabric.Print("printed once");
    }

    public static void LaunchTwice(Settings settings)
    {
        var fabric = settings.Launch();
        var port = Environment.GetEnvironmentVariable("MASTER_PORT");
        Report.Outcome(fabric.GlobalRank, fabric.Launch);
        Console.WriteLine(port == Environment.GetEnvironmentVariable("MASTER_PORT") ? "the same store" : "another store");
        fabric.Barrier();
    }

    public static void LaunchFunction(Settings settings)
    {
        using var fabric = new Fabric(accelerator: "cpu", devices: 2, strategy: settings.Text("strategy"));
        fabric.Launch(f => Report.Send(new { rank = f.GlobalRank, sum = f.AllReduce(f.GlobalRank + 1.0, "sum"), process = Environment.ProcessId }));
    }

    /// <summary>What torchrun's agent does: serves the store on <c>port</c> until it is killed.</summary>
    public static void ServeStore(Settings settings)
    {
        using var store = new Collectives.TCPStore("127.0.0.1", settings.Number("port", 0), isServer: true);
        Console.WriteLine("serving");
        Console.Out.Flush();
        new ManualResetEvent(false).WaitOne(TimeSpan.FromSeconds(120));
    }
}
