namespace FabricSharp.Tests.Environments;

/// <summary>The variables of one process as a launcher sets them.</summary>
internal sealed class Recorded : Dictionary<string, string>
{
    public Func<string, string?> Variable => name => GetValueOrDefault(name);

    /// <summary>Rank 3 of 4: <c>torchrun --no-python --nnodes 2 --nproc-per-node 2</c>.</summary>
    public static Recorded Torchrun => new()
    {
        ["LOCAL_RANK"] = "1", ["RANK"] = "3", ["GROUP_RANK"] = "1", ["ROLE_RANK"] = "3", ["ROLE_NAME"] = "default", ["LOCAL_WORLD_SIZE"] = "2",
        ["WORLD_SIZE"] = "4", ["GROUP_WORLD_SIZE"] = "2", ["ROLE_WORLD_SIZE"] = "4", ["MASTER_ADDR"] = "node0", ["MASTER_PORT"] = "29500",
        ["TORCHELASTIC_RESTART_COUNT"] = "0", ["TORCHELASTIC_MAX_RESTARTS"] = "0", ["TORCHELASTIC_RUN_ID"] = "none",
        ["TORCHELASTIC_USE_AGENT_STORE"] = "True", ["TORCHELASTIC_ERROR_FILE"] = "/tmp/torchelastic_x/none_y/attempt_0/1/error.json", ["OMP_NUM_THREADS"] = "1",
    };

    /// <summary>Rank 5 of 8: <c>sbatch --nodes=2 --ntasks-per-node=4</c>, <c>srun</c>.</summary>
    public static Recorded Slurm => new()
    {
        ["SLURM_JOB_ID"] = "8641234", ["SLURM_JOBID"] = "8641234", ["SLURM_JOB_NAME"] = "train.sh", ["SLURM_JOB_NODELIST"] = "gpu[07-08]", ["SLURM_NODELIST"] = "gpu[07-08]",
        ["SLURM_NNODES"] = "2", ["SLURM_JOB_NUM_NODES"] = "2", ["SLURM_NTASKS"] = "8", ["SLURM_NPROCS"] = "8", ["SLURM_NTASKS_PER_NODE"] = "4", ["SLURM_TASKS_PER_NODE"] = "4(x2)",
        ["SLURM_PROCID"] = "5", ["SLURM_LOCALID"] = "1", ["SLURM_NODEID"] = "1", ["SLURM_STEP_ID"] = "0", ["SLURM_STEPID"] = "0", ["SLURMD_NODENAME"] = "gpu08",
        ["SLURM_LAUNCH_NODE_IPADDR"] = "10.0.0.7", ["PMI_RANK"] = "5", ["PMI_SIZE"] = "8", // of srun's pmi2 plugin
    };

    /// <summary>Rank 2 of 4: <c>jsrun -n 4 -r 2</c> in an LSF job.</summary>
    public static Recorded Lsf(string rankFile) => new()
    {
        ["LSB_JOBID"] = "1234567", ["LSB_DJOB_RANKFILE"] = rankFile, ["LSB_DJOB_NUMPROC"] = "5", ["JSM_NAMESPACE_RANK"] = "2", ["JSM_NAMESPACE_LOCAL_RANK"] = "0",
        ["JSM_NAMESPACE_SIZE"] = "4", ["JSM_NAMESPACE_LOCAL_SIZE"] = "2", ["OMPI_COMM_WORLD_RANK"] = "2", ["OMPI_COMM_WORLD_SIZE"] = "4", // of Spectrum MPI
        ["OMPI_COMM_WORLD_LOCAL_RANK"] = "0", ["OMPI_COMM_WORLD_LOCAL_SIZE"] = "2",
    };

    /// <summary>Rank 1 of 2: Open MPI 4.1.4, <c>mpirun -n 2</c> (what matters of about 60 variables).</summary>
    public static Recorded OpenMpi => new()
    {
        ["OMPI_COMM_WORLD_RANK"] = "1", ["OMPI_COMM_WORLD_SIZE"] = "2", ["OMPI_COMM_WORLD_LOCAL_RANK"] = "1", ["OMPI_COMM_WORLD_LOCAL_SIZE"] = "2",
        ["OMPI_COMM_WORLD_NODE_RANK"] = "1", ["OMPI_UNIVERSE_SIZE"] = "2", ["OMPI_MCA_ess_base_jobid"] = "1400700929", ["OMPI_MCA_ess_base_vpid"] = "1",
        ["OMPI_MCA_orte_hnp_uri"] = "1400700928.0;tcp://192.0.2.2:47835;tcp6://[fd00::2]:58755", ["PMIX_NAMESPACE"] = "1400700929", ["PMIX_RANK"] = "1",
        ["PMIX_ID"] = "1400700929.1", ["PMIX_HOSTNAME"] = "vm",
    };

    /// <summary>Rank 1 of 2: MPICH 4.0.2, <c>mpiexec.hydra -n 2</c>.</summary>
    public static Recorded Mpich => new()
    {
        ["PMI_RANK"] = "1", ["PMI_SIZE"] = "2", ["PMI_FD"] = "8", ["MPI_LOCALRANKID"] = "1", ["MPI_LOCALNRANKS"] = "2", ["HYDI_CONTROL_FD"] = "7",
        ["MPIR_CVAR_CH3_INTERFACE_HOSTNAME"] = "vm", ["GFORTRAN_UNBUFFERED_PRECONNECTED"] = "y",
    };

    /// <summary>Rank 1 of 3: a worker pod of a PyTorchJob.</summary>
    public static Recorded Kubeflow => new()
    {
        ["MASTER_ADDR"] = "train-master-0", ["MASTER_PORT"] = "23456", ["WORLD_SIZE"] = "3", ["RANK"] = "1", ["PYTHONUNBUFFERED"] = "1",
        ["KUBERNETES_SERVICE_HOST"] = "10.96.0.1", ["KUBERNETES_SERVICE_PORT"] = "443", ["HOSTNAME"] = "train-worker-0",
    };

    /// <summary>The same with one variable changed, or taken away where <paramref name="value"/> is null.</summary>
    public Recorded With(string name, string? value)
    {
        Remove(name);
        if (value is not null)
            this[name] = value;
        return this;
    }

    public Recorded And(Recorded others)
    {
        foreach (var (name, value) in others)
            this[name] = value;
        return this;
    }

    private string? GetValueOrDefault(string name) => TryGetValue(name, out var value) ? value : null;
}
