using System.Globalization;

namespace FabricSharp.Loggers;

/// <summary>Whose logs are written: rank 0's. Loggers are made before Fabric, so a rank must be known without it too.</summary>
internal static class LoggingRank
{
    /// <summary>Variables that hold a process's number among all, in the order in which they are looked at.</summary>
    private static readonly string[] GlobalRankVariables = ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "JSM_NAMESPACE_RANK"];

    /// <summary>Flows to what a rank's thread starts.</summary>
    private static readonly AsyncLocal<int?> OfThread = new();

    /// <summary>To be called first on a thread that is a rank.</summary>
    public static void EnterThread(int rank) => OfThread.Value = rank;

    /// <param name="bound">The rank that Fabric gave the logger, if any.</param>
    public static bool IsZero(int? bound) => (OfThread.Value ?? bound ?? Read(Environment.GetEnvironmentVariable)) == 0;

    /// <summary>The rank by environment variables; 0 when none is set. Not always exact above 0, where it does not matter.</summary>
    public static int Read(Func<string, string?> variable)
    {
        if (Number(variable, "LOCAL_RANK") is > 0 and var local)
            return local;
        foreach (var name in GlobalRankVariables)
            if (Number(variable, name) is { } rank)
                return rank;
        return Number(variable, "NODE_RANK") ?? Number(variable, "GROUP_RANK") ?? 0;
    }

    private static int? Number(Func<string, string?> variable, string name) =>
        int.TryParse(variable(name), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;
}
