using System.Net;

namespace FabricSharp.Environments;

/// <summary>
/// <c>jsrun dotnet App.dll</c>: LSB_JOBID, JSM_NAMESPACE_RANK, JSM_NAMESPACE_LOCAL_RANK, JSM_NAMESPACE_SIZE, and the file of
/// LSB_DJOB_RANKFILE: a machine per line, first the one that launches. The store is on the next one, on port 10000 + LSB_JOBID mod 1000
/// unless MASTER_PORT says which.
/// </summary>
internal sealed class LsfEnvironment : ClusterEnvironment
{
    private static readonly string[] Marks = ["LSB_JOBID", "LSB_DJOB_RANKFILE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE"];

    private LsfEnvironment(LauncherVariables variables, string machine)
    {
        var job = variables.Number("LSB_JOBID", 0, int.MaxValue) ?? throw variables.Missing("LSB_JOBID");
        var machines = Machines(variables);
        WorldSize = variables.Size("JSM_NAMESPACE_SIZE");
        GlobalRank = variables.Rank("JSM_NAMESPACE_RANK");
        LocalRank = variables.Rank("JSM_NAMESPACE_LOCAL_RANK");
        LocalWorldSize = variables.Number("JSM_NAMESPACE_LOCAL_SIZE", 1, LauncherVariables.LargestWorld);
        MainAddress = machines[0];
        MainPort = variables.Number("MASTER_PORT", 1, 65535) ?? 10000 + job % 1000;
        NodeRank = machines.FindIndex(name => IsSame(name, machine));
        if (NodeRank < 0)
            throw variables.Malformed("LSB_DJOB_RANKFILE", $"a file that lists this machine, '{machine}', after its first line; it lists {string.Join(", ", machines)}");
    }

    public override string Name => "lsf";

    public override bool CreatesProcessesExternally => true;

    public override string MainAddress { get; }

    public override int MainPort { get; }

    public override int LocalRank { get; }

    public override int NodeRank { get; }

    public override int? GlobalRank { get; }

    public override int? WorldSize { get; }

    public override int? LocalWorldSize { get; }

    public static bool Detect(Func<string, string?> variable) => Marks.All(name => !string.IsNullOrEmpty(variable(name)));

    public static LsfEnvironment Read(Func<string, string?> variable) => Read(variable, Dns.GetHostName());

    /// <param name="variable">Reads an environment variable.</param>
    /// <param name="machine">This machine's name.</param>
    public static LsfEnvironment Read(Func<string, string?> variable, string machine) =>
        new(new LauncherVariables(variable, "`jsrun` sets it in an LSF job: start the program with `jsrun dotnet App.dll`."), machine);

    /// <summary>The machines that compute, in order of first appearance.</summary>
    private static List<string> Machines(LauncherVariables variables)
    {
        var file = variables.RequiredText("LSB_DJOB_RANKFILE");
        if (!File.Exists(file))
            throw variables.Malformed("LSB_DJOB_RANKFILE", "a file that exists");
        var machines = File.ReadLines(file).Select(line => line.Trim()).Where(line => line.Length > 0).Skip(1).Distinct().ToList();
        return machines.Count > 0 ? machines : throw variables.Malformed("LSB_DJOB_RANKFILE", "a file of at least two lines: the machine that launches, then those that compute");
    }

    /// <summary>One of them may be given without its domain.</summary>
    private static bool IsSame(string a, string b)
    {
        if (a.Contains('.', StringComparison.Ordinal) != b.Contains('.', StringComparison.Ordinal))
            (a, b) = (a.Split('.')[0], b.Split('.')[0]);
        return a.Equals(b, StringComparison.OrdinalIgnoreCase);
    }
}
