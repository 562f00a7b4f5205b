namespace FabricSharp.Environments;

/// <summary>
/// Where the ranks of a job come from and which of them this process is. Fabric finds it by itself (torchrun, SLURM, LSF, MPI, Kubeflow, else
/// this machine); to use another, pass an object as a plugin: <c>new Fabric(plugins: [ClusterEnvironment.FromVariables("local")])</c>, or one of
/// your own class.
/// </summary>
/// <remarks>
/// Each member gives the same value whenever it is asked. Where <see cref="CreatesProcessesExternally"/> is false, Fabric starts the other
/// ranks of the machine with LOCAL_RANK, WORLD_SIZE, NODE_RANK, MASTER_ADDR and MASTER_PORT set; there the object must say true and give these.
/// </remarks>
public abstract class ClusterEnvironment
{
    /// <summary>The name that messages use.</summary>
    public abstract string Name { get; }

    /// <summary>Whether something else has started (or starts) every rank, so that a launcher must not.</summary>
    public abstract bool CreatesProcessesExternally { get; }

    /// <summary>Host where the store is served, as a rule by rank 0.</summary>
    public abstract string MainAddress { get; }

    /// <summary>Port of the store, 1 to 65535; 0 where Fabric starts the ranks: any free one.</summary>
    public abstract int MainPort { get; }

    /// <summary>This process's number on its machine, from 0.</summary>
    public abstract int LocalRank { get; }

    /// <summary>This machine's number, from 0.</summary>
    public abstract int NodeRank { get; }

    /// <summary>The number of ranks that the environment was made for; null when it does not say.</summary>
    public abstract int? WorldSize { get; }

    /// <summary>This process's number among all, from 0.</summary>
    /// <value>Default null: <see cref="NodeRank"/> × the ranks of a machine + <see cref="LocalRank"/>.</value>
    public virtual int? GlobalRank => null;

    /// <summary>The number of ranks on this machine, which <c>devices: "auto"</c> then means for the CPU.</summary>
    /// <value>Default null: the environment does not say.</value>
    public virtual int? LocalWorldSize => null;

    /// <summary>Whether something else serves the store, so that rank 0 connects to it as the others do.</summary>
    /// <value>Default false: rank 0 serves it.</value>
    public virtual bool IsStoreServedExternally => false;

    /// <summary>What comes before all keys in the store; empty for nothing.</summary>
    internal virtual string StorePrefix => "";

    /// <summary>What the user should know about this environment; rank 0 prints it.</summary>
    /// <value>Default none.</value>
    public virtual IReadOnlyList<string> Warnings => [];

    /// <summary>The environment of a name, read from this process's variables, whatever would be detected. Local.</summary>
    /// <param name="name"><c>torchelastic</c>, <c>slurm</c>, <c>lsf</c>, <c>mpi</c>, <c>kubeflow</c> or <c>local</c>.</param>
    /// <exception cref="ArgumentException">The name is unknown, or a variable is missing or malformed; the message names it.</exception>
    public static ClusterEnvironment FromVariables(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return EnvironmentRegistry.Read(name, Environment.GetEnvironmentVariable);
    }

    /// <summary>Refuses devices and machines that do not fit the ranks that exist. Called where several ranks take part, before anything starts.</summary>
    /// <param name="devices">Ranks per machine that were asked for.</param>
    /// <param name="numNodes">Machines that were asked for.</param>
    /// <exception cref="ArgumentException">They do not fit. The default compares their product with <see cref="WorldSize"/>.</exception>
    public virtual void Validate(int devices, int numNodes)
    {
        if (CreatesProcessesExternally && WorldSize is { } size && size != devices * numNodes)
            throw new ArgumentException(
                $"You set `devices={devices}` and `numNodes={numNodes}` in Fabric, but the product ({devices} * {numNodes}) does not match the world size ({size}) of the environment '{Name}'. Change them, or start {devices * numNodes} processes.", nameof(devices));
    }
}
