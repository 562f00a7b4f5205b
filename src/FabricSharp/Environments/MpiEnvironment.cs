namespace FabricSharp.Environments;

/// <summary>
/// <c>mpirun -n 2 dotnet App.dll</c>, by the variables that Open MPI, MPICH, Intel MPI, MVAPICH or PMIx set (<see cref="MpiVariables"/>); the MPI
/// library itself is not needed. On one machine the store is at 127.0.0.1, on several at MASTER_ADDR. Its port is MASTER_PORT, else
/// 10000 to 29999 by the name of the job, so that every rank finds the same one. Neither is needed by the back end mpi, whose ranks meet
/// through MPI.
/// </summary>
internal sealed class MpiEnvironment : ClusterEnvironment
{
    private const int FirstPort = 10000, Ports = 20000; // below those that systems hand out by themselves

    private readonly Func<string> _address;
    private readonly Func<int> _port;

    private MpiEnvironment(LauncherVariables variables, MpiVariables names)
    {
        var rank = variables.Rank(names.Rank);
        var size = variables.Size(names.Size);
        var localSize = variables.Size(names.LocalSize);
        GlobalRank = rank;
        WorldSize = size;
        LocalRank = variables.Rank(names.LocalRank);
        LocalWorldSize = localSize;
        NodeRank = size == localSize ? 0 : Machine(names, rank, LocalRank, localSize);
        _address = () => variables.Text("MASTER_ADDR") ?? (size == localSize ? "127.0.0.1" : throw variables.Missing("MASTER_ADDR",
            $"The {size} ranks are on several machines ({names.LocalSize}={localSize}), and {names.Launcher} does not say where rank 0 is: set MASTER_ADDR to its machine for every rank, with Open MPI by `mpirun -x MASTER_ADDR=host1 …`, with MPICH by `mpiexec -genv MASTER_ADDR host1 …`. The back end mpi (processGroupBackend) does without."));
        var port = variables.Number("MASTER_PORT", 1, 65535);
        _port = () => port ?? PortOfJob(variables, names);
    }

    public override string Name => "mpi";

    public override bool CreatesProcessesExternally => true;

    public override string MainAddress => _address();

    public override int MainPort => _port();

    public override int LocalRank { get; }

    public override int NodeRank { get; }

    public override int? GlobalRank { get; }

    public override int? WorldSize { get; }

    public override int? LocalWorldSize { get; }

    /// <summary>A world of one, as <c>mpirun -n 1</c> makes it, may start its ranks itself.</summary>
    public static bool Detect(Func<string, string?> variable) => MpiVariables.Find(variable) is { } names && variable(names.Size) != "1";

    public static MpiEnvironment Read(Func<string, string?> variable)
    {
        var names = MpiVariables.Find(variable) ?? throw new ArgumentException("There is no variable of MPI (OMPI_COMM_WORLD_RANK, MV2_COMM_WORLD_RANK, PMI_RANK, PMIX_RANK): start the program with `mpirun -n 2 dotnet App.dll`.");
        return new(new LauncherVariables(variable, $"{names.Rank} says that {names.Launcher} started this process, where every rank needs {names.Size}, {names.LocalRank} and {names.LocalSize}: start the program with mpirun, or set what is missing."), names);
    }

    /// <summary>MPI numbers no machines: ranks are expected to fill one after the other.</summary>
    private static int Machine(MpiVariables names, int rank, int localRank, int localSize) => rank % localSize == localRank
        ? rank / localSize
        : throw new ArgumentException($"{names.Rank}={rank}, {names.LocalRank}={localRank} and {names.LocalSize}={localSize} say that ranks do not fill one machine after the other. Place the same number on each in turn: `mpirun --map-by ppr:{localSize}:node …` with Open MPI, `mpiexec -ppn {localSize} …` with MPICH.");

    private static int PortOfJob(LauncherVariables variables, MpiVariables names)
    {
        var job = MpiVariables.JobNames.Select(variables.Text).FirstOrDefault(text => text is not null)
            ?? throw variables.Missing("MASTER_PORT", $"{names.Launcher} gives no name to its job from which all ranks could choose the same port: set MASTER_PORT to a free one for every rank, for example `mpiexec -genv MASTER_PORT 29500 -n 2 dotnet App.dll`.");
        return FirstPort + (int)(Hash(job) % Ports);
    }

    /// <summary>FNV-1a: the same in every process, as <see cref="string.GetHashCode()"/> is not.</summary>
    private static uint Hash(string text)
    {
        var hash = 2166136261;
        foreach (var character in text)
            hash = unchecked((hash ^ character) * 16777619);
        return hash;
    }
}
