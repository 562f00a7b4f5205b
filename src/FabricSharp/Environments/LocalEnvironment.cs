namespace FabricSharp.Environments;

/// <summary>
/// Lightning's variables: LOCAL_RANK (its presence means that processes come from outside), MASTER_ADDR (127.0.0.1), MASTER_PORT (any free
/// one), NODE_RANK, else GROUP_RANK (0), WORLD_SIZE.
/// </summary>
internal sealed class LocalEnvironment : ClusterEnvironment
{
    private LocalEnvironment(LauncherVariables variables, string? hint)
    {
        var localRank = variables.Number("LOCAL_RANK", 0, LauncherVariables.LargestRank);
        CreatesProcessesExternally = localRank is not null;
        LocalRank = localRank ?? 0;
        MainAddress = variables.Text("MASTER_ADDR") ?? "127.0.0.1";
        MainPort = variables.Port("MASTER_PORT") ?? 0;
        NodeRank = variables.Number("NODE_RANK", 0, LauncherVariables.LargestRank) ?? variables.Number("GROUP_RANK", 0, LauncherVariables.LargestRank) ?? 0;
        WorldSize = variables.Number("WORLD_SIZE", 1, LauncherVariables.LargestWorld);
        Warnings = CreatesProcessesExternally || hint is null ? [] : [hint];
    }

    public override string Name => "local";

    public override bool CreatesProcessesExternally { get; }

    public override string MainAddress { get; }

    public override int MainPort { get; }

    public override int LocalRank { get; }

    public override int NodeRank { get; }

    public override int? WorldSize { get; }

    public override IReadOnlyList<string> Warnings { get; }

    /// <param name="variable">Reads an environment variable.</param>
    public static LocalEnvironment Read(Func<string, string?> variable) =>
        new(new LauncherVariables(variable, "Unset it to start the ranks from this program."), SlurmEnvironment.UnusedSrun(variable));
}
