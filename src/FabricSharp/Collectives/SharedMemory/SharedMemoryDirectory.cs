namespace FabricSharp.Collectives.SharedMemory;

/// <summary>Where segments live: /dev/shm when it can be written, else the temporary folder (slower where that is on a disk).</summary>
internal static class SharedMemoryDirectory
{
    /// <summary>Names the folder explicitly.</summary>
    public const string Variable = "FABRIC_SHM_DIR";

    /// <summary>What the names of all files of ours begin with.</summary>
    public const string Prefix = "fabric-";

    private static readonly TimeSpan LeftoverAge = TimeSpan.FromDays(1);

    /// <param name="standard">The folder that is memory; another one in tests.</param>
    public static SharedMemoryFolders Choose(string standard = "/dev/shm")
    {
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } chosen)
        {
            if (!Directory.Exists(chosen))
                throw new DistributedException($"{Variable}={chosen} is no existing folder. Name one that all ranks of this machine can write, or unset it.");
            return new SharedMemoryFolders(chosen, null);
        }

        var temporary = Path.GetTempPath();
        if (!OperatingSystem.IsLinux())
            return new SharedMemoryFolders(temporary, null);
        if (IsWritable(standard))
            return new SharedMemoryFolders(standard, temporary);
        return new SharedMemoryFolders(
            temporary, null,
            $"{standard} {(Directory.Exists(standard) ? "cannot be written" : "does not exist")}: files in {temporary} take its place, which is slower where that is on a disk. " +
            $"Mount it, or name another folder in {Variable}.");
    }

    /// <summary>
    /// Removes files that processes left which were killed while they set a group up. A file shows its name for the moment of set-up only, so one that
    /// is a day old is nobody's.
    /// </summary>
    public static void RemoveLeftovers(string folder, TimeProvider time)
    {
        var old = time.GetUtcNow() - LeftoverAge;
        try
        {
            foreach (var file in new DirectoryInfo(folder).EnumerateFiles($"{Prefix}*").Where(file => file.LastWriteTimeUtc < old.UtcDateTime))
                file.Delete();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // another user's, or another rank was faster: they do no harm but take room
        }
    }

    /// <summary>A sentence on the room that is left beside <paramref name="path"/>.</summary>
    public static string Describe(string path)
    {
        try
        {
            var drive = new DriveInfo(Path.GetDirectoryName(Path.GetFullPath(path))!);
            return $"{drive.Name} has {drive.AvailableFreeSpace:N0} of {drive.TotalSize:N0} bytes free.";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return $"(The free space could not be read: {e.Message})";
        }
    }

    private static bool IsWritable(string folder)
    {
        if (!Directory.Exists(folder))
            return false;
        var probe = Path.Combine(folder, $"fabric-{Guid.NewGuid():N}.probe");
        try
        {
            using (new FileStream(probe, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose))
                return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}

/// <summary>Where the segments of a group go.</summary>
/// <param name="Main">The usual place.</param>
/// <param name="Fallback">Where what does not fit there goes; null: such is an error.</param>
/// <param name="Warning">What rank 0 tells the user about the choice.</param>
internal sealed record SharedMemoryFolders(string Main, string? Fallback, string? Warning = null);
