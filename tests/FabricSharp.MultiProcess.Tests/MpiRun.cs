namespace FabricSharp.MultiProcess.Tests;

/// <summary>Programs under Open MPI's mpirun; tests skip where there is none.</summary>
internal static class MpiRun
{
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    /// <summary>mpirun gives ranks a pseudo-terminal, to which .NET sends control characters unless it is a dumb one.</summary>
    private static readonly (string, string?) Plain = ("TERM", "dumb");

    private static string? OpenMpi => Find("mpirun.openmpi", "mpirun");

    /// <summary>Starts a worker's scenario.</summary>
    /// <param name="ranks">Processes.</param>
    /// <param name="arguments">As of <see cref="RunningProgram.Worker"/>.</param>
    /// <param name="environment">Variables for mpirun and every rank.</param>
    public static RunningProgram Worker(int ranks, string arguments, params (string Name, string? Value)[] environment) =>
        Start(ranks, ["dotnet", Programs.Worker + ".dll", .. arguments.Split(' ')], environment);

    /// <summary>Starts a program.</summary>
    public static RunningProgram Start(int ranks, string[] program, params (string Name, string? Value)[] environment)
    {
        var mpirun = OpenMpi;
        Assert.SkipWhen(mpirun is null, "There is no mpirun of Open MPI: apt-get install openmpi-bin.");
        return new RunningProgram(mpirun, ["--allow-run-as-root", "--oversubscribe", "-n", $"{ranks}", .. program], [Plain, ("OMP_NUM_THREADS", "1"), .. environment]);
    }

    /// <summary>Runs a worker's scenario to its end.</summary>
    public static async Task<ProgramResult> RunWorkerAsync(int ranks, string arguments, params (string Name, string? Value)[] environment)
    {
        using var program = Worker(ranks, arguments, environment);
        return await program.EndAsync(Limit);
    }

    /// <summary>The first of these programs that is on PATH.</summary>
    public static string? Find(params string[] names) => names
        .SelectMany(name => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Select(folder => Path.Combine(folder, name)))
        .FirstOrDefault(File.Exists);
}
