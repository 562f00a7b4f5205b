namespace FabricSharp.Environments;

/// <summary>A PyTorchJob of Kubeflow's training operator, one rank per pod: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.</summary>
internal sealed class KubeflowEnvironment : ClusterEnvironment
{
    private KubeflowEnvironment(LauncherVariables variables)
    {
        MainAddress = variables.RequiredText("MASTER_ADDR");
        MainPort = variables.Number("MASTER_PORT", 1, 65535) ?? throw variables.Missing("MASTER_PORT");
        WorldSize = variables.Size("WORLD_SIZE");
        NodeRank = variables.Rank("RANK");
    }

    public override string Name => "kubeflow";

    public override bool CreatesProcessesExternally => true;

    public override string MainAddress { get; }

    public override int MainPort { get; }

    public override int LocalRank => 0;

    public override int NodeRank { get; }

    public override int? GlobalRank => NodeRank;

    public override int? WorldSize { get; }

    public override int? LocalWorldSize => 1;

    /// <summary>
    /// Lightning never detects it; here a pod of a job with several is enough, for otherwise each pod would take itself for rank 0. A
    /// LOCAL_RANK comes from a launcher within the pod, whose variables then count.
    /// </summary>
    public static bool Detect(Func<string, string?> variable) =>
        IsSet(variable, "KUBERNETES_SERVICE_HOST") && IsSet(variable, "RANK") && IsSet(variable, "MASTER_ADDR") && IsSet(variable, "MASTER_PORT")
        && IsSet(variable, "WORLD_SIZE") && variable("WORLD_SIZE") != "1" && !IsSet(variable, "LOCAL_RANK");

    public static KubeflowEnvironment Read(Func<string, string?> variable) =>
        new(new LauncherVariables(variable, "Kubeflow's training operator sets it in every pod of a PyTorchJob: look at the job's description, or set it there."));

    private static bool IsSet(Func<string, string?> variable, string name) => !string.IsNullOrEmpty(variable(name));
}
