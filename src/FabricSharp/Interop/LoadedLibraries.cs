using System.Diagnostics;

namespace FabricSharp.Interop;

/// <summary>The native libraries that this process has loaded.</summary>
internal static class LoadedLibraries
{
    /// <summary>The file of a loaded library whose name begins with <paramref name="prefix"/>; null where there is none.</summary>
    public static string? PathOf(string prefix)
    {
        using var process = Process.GetCurrentProcess();
        foreach (ProcessModule module in process.Modules)
            if (module.ModuleName.StartsWith(prefix, StringComparison.Ordinal))
                return module.FileName;
        return null;
    }

    /// <summary>Files beside a loaded library, in order of name.</summary>
    /// <param name="neighbour">How the loaded library's name begins.</param>
    /// <param name="pattern">Of the wanted files, as for Directory.GetFiles.</param>
    public static IEnumerable<string> Beside(string neighbour, string pattern) =>
        PathOf(neighbour) is { } path && Path.GetDirectoryName(path) is { } folder ? Directory.GetFiles(folder, pattern).Order(StringComparer.Ordinal) : [];
}
