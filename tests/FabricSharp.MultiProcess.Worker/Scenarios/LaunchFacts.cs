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
            world = fabric.WorldSize,
            process = Environment.ProcessId,
            arguments = Environment.GetCommandLineArgs()[1..],
            threads = TorchSharp.torch.get_num_threads(),
            variables = new[] { "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "OMP_NUM_THREADS" }.ToDictionary(name => name, Environment.GetEnvironmentVariable),
        });
        Console.Error.WriteLine($"a word on standard error from rank {fabric.GlobalRank}");
        fabric.Print("printed once");
    }
}
