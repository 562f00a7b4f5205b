namespace FabricSharp.Environments;

/// <summary>
/// <c>torchrun --no-python … dotnet App.dll</c>: RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK (the machine), MASTER_ADDR,
/// MASTER_PORT. With TORCHELASTIC_USE_AGENT_STORE=True torchrun serves the store.
/// </summary>
internal sealed class TorchElasticEnvironment : ClusterEnvironment
{
    private const int DefaultPort = 12910;

    private readonly int _attempt;

    private TorchElasticEnvironment(LauncherVariables variables)
    {
        GlobalRank = variables.Rank("RANK");
        LocalRank = variables.Rank("LOCAL_RANK");
        WorldSize = variables.Size("WORLD_SIZE");
        NodeRank = variables.Number("GROUP_RANK", 0, LauncherVariables.LargestRank) ?? 0;
        LocalWorldSize = variables.Number("LOCAL_WORLD_SIZE", 1, LauncherVariables.LargestWorld);
        IsStoreServedExternally = variables.Text("TORCHELASTIC_USE_AGENT_STORE") == "True";
        _attempt = variables.Number("TORCHELASTIC_RESTART_COUNT", 0, int.MaxValue) ?? 0;
        MainAddress = variables.Text("MASTER_ADDR") ?? "127.0.0.1";
        MainPort = variables.Number("MASTER_PORT", 1, 65535) ?? DefaultPort;
        Warnings = [.. Assumed(variables, "MASTER_ADDR", MainAddress), .. Assumed(variables, "MASTER_PORT", $"{DefaultPort}")];
    }

    public override string Name => "torchelastic";

    public override bool CreatesProcessesExternally => true;

    public override string MainAddress { get; }

    public override int MainPort { get; }

    public override int LocalRank { get; }

    public override int NodeRank { get; }

    public override int? GlobalRank { get; }

    public override int? WorldSize { get; }

    public override int? LocalWorldSize { get; }

    public override bool IsStoreServedExternally { get; }

    /// <summary>The agent's store outlives the workers: those of a restart must not read what the earlier ones wrote.</summary>
    internal override string StorePrefix => IsStoreServedExternally ? $"worker/attempt_{_attempt}" : "";

    public override IReadOnlyList<string> Warnings { get; }

    public static bool Detect(Func<string, string?> variable) => !string.IsNullOrEmpty(variable("TORCHELASTIC_RUN_ID"));

    public static TorchElasticEnvironment Read(Func<string, string?> variable) =>
        new(new LauncherVariables(variable, "torchrun sets it for every worker because TORCHELASTIC_RUN_ID is its mark: start the program with torchrun, or unset TORCHELASTIC_RUN_ID."));

    private static IEnumerable<string> Assumed(LauncherVariables variables, string name, string value) =>
        variables.Text(name) is null ? [$"{name} environment variable is not defined. Set as {value}."] : [];
}
