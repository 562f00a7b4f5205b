namespace FabricSharp.Environments;

/// <summary>Where the ranks of a job come from and which of them this process is. Read once, when Fabric is made.</summary>
internal abstract class ClusterEnvironment
{
    /// <summary>The name that messages use.</summary>
    public abstract string Name { get; }

    /// <summary>Whether something else has started (or starts) every rank, so that a launcher must not.</summary>
    public abstract bool CreatesProcessesExternally { get; }

    /// <summary>Host where rank 0 serves the store.</summary>
    public abstract string MainAddress { get; }

    /// <summary>Port of the store; 0: any free one.</summary>
    public abstract int MainPort { get; }

    /// <summary>This process's number on its machine.</summary>
    public abstract int LocalRank { get; }

    /// <summary>This machine's number.</summary>
    public abstract int NodeRank { get; }

    /// <summary>The number of ranks that the environment was made for; null when it does not say.</summary>
    public abstract int? WorldSize { get; }
}
