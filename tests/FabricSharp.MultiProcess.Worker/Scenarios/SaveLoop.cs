using System.Diagnostics;
using System.Text.Json;
using FabricSharp.Checkpointing;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>
/// Loads the newest checkpoint of <c>path</c> as a resumed run does, checks that all of it is of one save, and goes on saving until it is killed, or
/// <c>saves</c> times. Prints <c>loaded n</c> and, after each save, <c>saved n</c>.
/// </summary>
internal static class SaveLoop
{
    public static void Run(Settings settings)
    {
        using var fabric = settings.Launch();
        var stem = Path.Combine(settings.Text("path"), "step-");
        var number = Load(fabric, stem);
        Say($"loaded {number}");
        for (var save = 0; save < settings.Number("saves", int.MaxValue); save++)
        {
            Save(fabric, stem, ++number, settings);
            Say($"saved {number}");
        }
    }

    /// <summary>One failing save: its message. With <c>largest</c>, no file of rank 0 can grow beyond that.</summary>
    public static void Failing(Settings settings)
    {
        using var fabric = settings.Launch();
        if (fabric.IsGlobalZero && settings.Number("largest", 0) is > 0 and var bytes)
            Process.Start("prlimit", $"--pid {Environment.ProcessId} --fsize={bytes}").WaitForExit(); // only now: the runtime and the ranks' shared memory need more
        var stem = Path.Combine(settings.Text("path"), "step-");
        Report.Outcome(fabric.GlobalRank, () => Save(fabric, stem, settings.Number("number", 1), settings));
    }

    private static void Save(Fabric fabric, string stem, long number, Settings settings)
    {
        using var scope = NewDisposeScope();
        var state = new Dictionary<string, object?> { ["number"] = number, ["random"] = new RandomState() };
        for (var i = 0; i < 3; i++)
            state[$"tensor{i}"] = full(settings.Number("elements", 100_000), number, ScalarType.Int64);
        state["module"] = Filled(number);
        var path = $"{stem}{(settings.Flag("same") ? 1 : number)}";
        if (settings.Flag("async"))
            fabric.SaveAsync(path, state, keepLast: 2).Wait();
        else
            fabric.Save(path, state, keepLast: 2);
    }

    private static nn.Module Filled(long number)
    {
        var module = nn.Linear(64, 64);
        using (no_grad())
            foreach (var parameter in module.parameters())
                parameter.fill_(number);
        return module;
    }

    private static long Load(Fabric fabric, string stem)
    {
        if (Checkpoint.Latest(stem) is not { } path)
            return 0;
        using var scope = NewDisposeScope();
        var loaded = fabric.Load(path, new() { ["random"] = new RandomState() });
        var number = ((JsonElement)loaded["number"]!).GetInt64();
        foreach (var tensor in loaded.Values.OfType<Tensor>().Concat(((Dictionary<string, Tensor>)loaded["module"]!).Values))
            if (!tensor.eq(number).all().item<bool>())
                throw new InvalidOperationException($"The checkpoint '{path}' of save {number} has tensors of another.");
        return number;
    }

    private static void Say(string line)
    {
        Console.WriteLine(line);
        Console.Out.Flush();
    }
}
