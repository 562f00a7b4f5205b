using System.Globalization;

namespace FabricSharp.Environments;

/// <summary>
/// <c>srun dotnet App.dll</c>: SLURM_NTASKS, SLURM_PROCID, SLURM_LOCALID, SLURM_NODEID, SLURM_NTASKS_PER_NODE, SLURM_NNODES. The store is on
/// the first machine of SLURM_NODELIST unless MASTER_ADDR says where, on port 15000 + the last four digits of SLURM_JOB_ID unless
/// MASTER_PORT says which (two steps that run at once in one job need it).
/// </summary>
internal sealed class SlurmEnvironment : ClusterEnvironment
{
    private const int DefaultPort = 12910;
    private readonly int? _tasksPerNode, _nodes;

    private SlurmEnvironment(LauncherVariables variables)
    {
        var size = variables.Size("SLURM_NTASKS");
        WorldSize = size;
        GlobalRank = variables.Rank("SLURM_PROCID");
        LocalRank = variables.Rank("SLURM_LOCALID");
        NodeRank = variables.Rank("SLURM_NODEID");
        _nodes = variables.Number("SLURM_NNODES", 1, LauncherVariables.LargestRank);
        _tasksPerNode = variables.Number("SLURM_NTASKS_PER_NODE", 1, LauncherVariables.LargestRank);
        if (size > 1 && _tasksPerNode is null)
            throw new ArgumentException($"You set `--ntasks={size}` in your SLURM bash script, but this variable is not supported. HINT: Use `--ntasks-per-node={size / (_nodes ?? 1)}` instead (SLURM_NTASKS_PER_NODE is not set).");
        MainAddress = variables.Text("MASTER_ADDR") ?? FirstMachine(variables, _nodes ?? 1);
        MainPort = variables.Number("MASTER_PORT", 1, 65535) ?? PortOfJob(variables);
        Warnings = size > 1 && variables.Text("SLURM_STEP_ID") is null
            ? [$"SLURM_NTASKS={size} but SLURM_STEP_ID is not set: this process was not started by `srun`, so the other ranks may never come. HINT: prepend your command with `srun`: srun dotnet App.dll."]
            : [];
    }

    public override string Name => "slurm";

    public override bool CreatesProcessesExternally => true;

    public override string MainAddress { get; }

    public override int MainPort { get; }

    public override int LocalRank { get; }

    public override int NodeRank { get; }

    public override int? GlobalRank { get; }

    public override int? WorldSize { get; }

    public override int? LocalWorldSize => _tasksPerNode ?? 1;

    public override IReadOnlyList<string> Warnings { get; }

    /// <summary>A shell within an allocation (<c>salloc</c>, <c>srun --pty bash</c>) is no job of several ranks.</summary>
    public static bool Detect(Func<string, string?> variable) =>
        !string.IsNullOrEmpty(variable("SLURM_NTASKS")) && variable("SLURM_JOB_NAME") is not ("bash" or "interactive");

    public static SlurmEnvironment Read(Func<string, string?> variable) =>
        new(new LauncherVariables(variable, "`srun` sets it for every task: start the program with `srun dotnet App.dll`, or unset SLURM_NTASKS to start the ranks from this program."));

    /// <summary>What to tell a user who has <c>srun</c> but did not start this process with it; null where there is nothing to tell.</summary>
    public static string? UnusedSrun(Func<string, string?> variable)
    {
        if (Detect(variable) || !(variable("PATH") ?? "").Split(Path.PathSeparator).Any(folder => folder.Length > 0 && File.Exists(Path.Combine(folder, "srun"))))
            return null;
        return "The `srun` command is available on your system but is not used. HINT: If your intention is to run on SLURM, prepend your command with `srun` like so: srun dotnet App.dll.";
    }

    /// <inheritdoc/>
    public override void Validate(int devices, int numNodes)
    {
        if (_tasksPerNode is { } tasks && tasks != devices)
            throw new ArgumentException($"You set `devices={devices}` in Fabric, but the number of tasks per node configured in SLURM `--ntasks-per-node={tasks}` does not match. HINT: Set `devices={tasks}`.", nameof(devices));
        if (_nodes is { } nodes && nodes != numNodes)
            throw new ArgumentException($"You set `numNodes={numNodes}` in Fabric, but the number of nodes configured in SLURM `--nodes={nodes}` does not match. HINT: Set `numNodes={nodes}`.", nameof(numNodes));
        base.Validate(devices, numNodes);
    }

    private static string FirstMachine(LauncherVariables variables, int nodes) =>
        SlurmHostList.First(nodes > 1 ? variables.RequiredText("SLURM_NODELIST") : variables.Text("SLURM_NODELIST") ?? "127.0.0.1")
        ?? throw variables.Malformed("SLURM_NODELIST", "a list of machines such as host5, host[5-9], host[5,7] or a1,b2");

    private static int PortOfJob(LauncherVariables variables)
    {
        if (variables.Text("SLURM_JOB_ID") is not { } job)
            return DefaultPort;
        if (!job.All(char.IsAsciiDigit))
            throw variables.Malformed("SLURM_JOB_ID", "a number");
        return 15000 + int.Parse(job[^Math.Min(4, job.Length)..], CultureInfo.InvariantCulture);
    }
}
