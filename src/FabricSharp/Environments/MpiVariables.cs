namespace FabricSharp.Environments;

/// <summary>The names under which a kind of <c>mpirun</c> tells a process who it is.</summary>
internal sealed record MpiVariables(string Launcher, string Rank, string Size, string LocalRank, string LocalSize)
{
    private static readonly MpiVariables[] Known =
    [
        new("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
        new("MVAPICH", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
        new("MPICH or Intel MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),

        // PMIx keeps the rest in its server: the user has to say it
        new("PMIx", "PMIX_RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    ];

    /// <summary>In which the launcher names its job, the same for every rank and no other job; MPICH has none.</summary>
    public static readonly IReadOnlyList<string> JobNames = ["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "OMPI_MCA_orte_hnp_uri", "PMI_JOBID"];

    /// <summary>The names that are in use; null outside MPI. Several are where one launcher builds on another: the first is the nearest.</summary>
    public static MpiVariables? Find(Func<string, string?> variable) => Array.Find(Known, names => !string.IsNullOrEmpty(variable(names.Rank)));
}
