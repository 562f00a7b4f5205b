using FabricSharp.DataParallel;
using FabricSharp.Strategies;

namespace FabricSharp.Examples.FashionMnist;

/// <summary>What the command line asks for.</summary>
internal sealed record TrainingOptions(string Devices, string Strategy, string Hook, int Epochs, int? MaxSteps, int BatchSize, string? Data, long Seed, bool Json)
{
    /// <summary>What may average gradients in place of the plain all-reduce, by name.</summary>
    public static IReadOnlyDictionary<string, Func<CommunicationHook?>> Hooks { get; } = new Dictionary<string, Func<CommunicationHook?>>
    {
        ["none"] = () => null,
        ["fp16"] = () => CommunicationHook.Float16(),
        ["bf16"] = () => CommunicationHook.BFloat16(),
        ["powersgd"] = () => new PowerSgdHook(rank: 2, startIteration: 100),
    };

    /// <summary>The strategy: by name, or as an object where a hook goes with it.</summary>
    public StrategyChoice Choice() => (Devices, Hook) switch
    {
        ("1", _) => "auto",
        (_, "none") => Strategy,
        _ => new DDPStrategy(findUnusedParameters: Strategy == "ddp_find_unused_parameters_true") { CommunicationHook = Hooks[Hook]() },
    };

    /// <summary>Reports every problem at once.</summary>
    /// <exception cref="ArgumentException">Some value is out of range.</exception>
    public void Validate()
    {
        var problems = new List<string>();
        if (Epochs < 1)
            problems.Add($"--epochs {Epochs} must be at least 1.");
        if (MaxSteps < 1)
            problems.Add($"--max-steps {MaxSteps} must be at least 1.");
        if (BatchSize < 1)
            problems.Add($"--batch-size {BatchSize} must be at least 1.");
        if (!Hooks.ContainsKey(Hook))
            problems.Add($"--hook {Hook} is unknown. Known: {string.Join(", ", Hooks.Keys)}.");
        else if (Hook != "none" && Strategy is not ("ddp" or "ddp_find_unused_parameters_true"))
            problems.Add($"--hook {Hook} goes with --strategy ddp or ddp_find_unused_parameters_true.");
        if (problems.Count > 0)
            throw new ArgumentException(string.Join(" ", problems));
    }
}
