using System.Runtime.InteropServices;

namespace FabricSharp.Interop.Mpi;

/// <summary>
/// The MPI library of this machine, found once, at run time: FABRIC_MPI_LIBRARY (a file or a name), else what belongs to the launcher that
/// started this process, else Open MPI, MPICH, the standard ABI in this order.
/// </summary>
internal static class MpiLibrary
{
    /// <summary>Names the library to use.</summary>
    public const string Variable = "FABRIC_MPI_LIBRARY";

    public const string OpenMpiName = "libmpi.so.40", MpichName = "libmpi.so.12", DebianMpichName = "libmpich.so.12", StandardName = "libmpi_abi.so.0", UnversionedStandardName = "libmpi_abi.so";

    /// <summary>What a launcher sets, and the library that its processes need.</summary>
    private static readonly (string Variable, string[] Names)[] Launchers =
    [
        ("OMPI_COMM_WORLD_SIZE", [OpenMpiName]),
        ("MV2_COMM_WORLD_SIZE", [MpichName]),
        ("PMI_RANK", [MpichName, DebianMpichName, StandardName, UnversionedStandardName]),
        ("PMIX_RANK", [OpenMpiName]),
    ];

    private static readonly Lazy<(MpiApi? Api, string? Reason)> Loaded = new(() => Load(Environment.GetEnvironmentVariable));

    public static bool IsSupported => Loaded.Value.Api is not null;

    /// <summary>Why MPI cannot be used here; null where it can.</summary>
    public static string? NotSupportedReason => Loaded.Value.Reason;

    /// <summary>The functions.</summary>
    /// <exception cref="MpiException">There is no usable library.</exception>
    public static MpiApi Api => Loaded.Value.Api ?? throw new MpiException(Loaded.Value.Reason!);

    /// <summary>The variable by which a launcher of MPI programs shows that it started this process; null where there is none.</summary>
    public static string? LauncherVariable(Func<string, string?> variable) => Launchers.Select(launcher => launcher.Variable).FirstOrDefault(name => !string.IsNullOrEmpty(variable(name)));

    /// <summary>The names to try, the likeliest first.</summary>
    public static IReadOnlyList<string> Candidates(Func<string, string?> variable)
    {
        if (variable(Variable) is { Length: > 0 } chosen)
            return [chosen];
        var implied = Launchers.FirstOrDefault(launcher => !string.IsNullOrEmpty(variable(launcher.Variable))).Names ?? [];
        return [.. implied.Concat([OpenMpiName, MpichName, DebianMpichName, StandardName, UnversionedStandardName]).Distinct()];
    }

    public static (MpiApi? Api, string? Reason) Load(Func<string, string?> variable)
    {
        if (!OperatingSystem.IsLinux() || !Environment.Is64BitProcess)
            return (null, $"MPI is used on 64-bit Linux only, this is {RuntimeInformation.RuntimeIdentifier}");
        var tried = new List<string>();
        foreach (var name in Candidates(variable))
        {
            if (!NativeLibrary.TryLoad(name, out var library))
            {
                tried.Add($"{name}: not found, or something that it needs is not");
                continue;
            }

            try
            {
                return (MpiApi.Over(library, name), null);
            }
            catch (Exception e) when (e is EntryPointNotFoundException or MpiException)
            {
                tried.Add($"{name}: {e.Message}");
            }
        }

        return (null, $"no MPI library was found ({string.Join("; ", tried)}). Install one (Debian, Ubuntu: apt-get install openmpi-bin), or name its file in {Variable}");
    }
}
