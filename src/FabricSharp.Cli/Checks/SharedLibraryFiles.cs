namespace FabricSharp.Cli.Checks;

/// <summary>Where the files of shared libraries lie, without loading them.</summary>
internal static class SharedLibraryFiles
{
    private static readonly string[] StandardFolders =
    [
        "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/lib", "/usr/local/lib",
        "/usr/lib64/openmpi/lib", "/usr/lib64/mpich/lib", "/usr/local/cuda/lib64", "/usr/local/nvidia/lib64",
    ];

    /// <summary>The first file that is there, looked for as the loader does: LD_LIBRARY_PATH, then the usual folders.</summary>
    /// <param name="names">File names, the best first.</param>
    /// <param name="first">Folders to look into before.</param>
    public static string? Find(IEnumerable<string> names, params string[] first)
    {
        var folders = first.Concat((Environment.GetEnvironmentVariable("LD_LIBRARY_PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries)).Concat(StandardFolders).ToList();
        return names.SelectMany(name => folders.Select(folder => Path.Combine(folder, name))).FirstOrDefault(File.Exists);
    }
}
