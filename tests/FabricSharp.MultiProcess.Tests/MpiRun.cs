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
    public static RunningProgram Worker(int ranks, string arguments) => Start(ranks, ["dotnet", Programs.Worker + ".dll", .. arguments.Split(' ')]);

    /// <summary>Starts a program.</summary>
    public static RunningProgram Start(int ranks, string[] program, params (string Name, string? Value)[] environment)
    {
        var mpirun = OpenMpi;
        Assert.SkipWhen(mpirun is null, "There is no mpirun of Open MPI: apt-get install openmpi-bin.");
        return new RunningProgram(mpirun, ["--allow-run-as-root", "--oversubscribe", "-n", $"{ranks}", .. program], [Plain, ("OMP_NUM_THREADS", "1"), .. environment]);
    }

    /// <summary>Runs a worker's scenario to its end. What it printed is all in <see cref="ProgramResult.Error"/>.</summary>
    public static Task<ProgramResult> RunWorkerAsync(int ranks, string arguments) => RunAsync(ranks, ["dotnet", Programs.Worker + ".dll", .. arguments.Split(' ')]);

    /// <summary>Runs a program that is, in the end, the worker.</summary>
    public static async Task<ProgramResult> RunAsync(int ranks, string[] command)
    {
        var reports = Directory.CreateTempSubdirectory("fabric-mpi-");
        try
        {
            using var program = Start(ranks, command, ("FABRIC_TEST_REPORTS", reports.FullName));
            var result = await program.EndAsync(Limit);
            var said = string.Concat(reports.GetFiles().Select(file => File.ReadAllText(file.FullName)));
            return new ProgramResult(result.ExitCode, said, result.Output + result.Error, result.Elapsed);
        }
        finally
        {
            reports.Delete(recursive: true);
        }
    }

    /// <summary>The first of these programs that is on PATH.</summary>
    public static string? Find(params string[] names) => names
        .SelectMany(name => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Select(folder => Path.Combine(folder, name)))
        .FirstOrDefault(File.Exists);
}
