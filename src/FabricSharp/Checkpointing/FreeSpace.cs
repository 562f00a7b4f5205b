namespace FabricSharp.Checkpointing;

/// <summary>Looks whether a checkpoint has room before any of it is written.</summary>
internal static class FreeSpace
{
    /// <param name="place">Where it is to be.</param>
    /// <param name="bytes">How much it takes. The old one stays until the new one is complete, and is not counted as room.</param>
    /// <exception cref="CheckpointException">There is less.</exception>
    public static void Require(CheckpointPlace place, long bytes)
    {
        Directory.CreateDirectory(place.Parent);
        if (AvailableAt(place.Parent) is { } available && available < bytes)
            throw new CheckpointException($"The checkpoint '{place.Path}' could not be saved: it needs {bytes:N0} bytes, but only {available:N0} bytes are available on the file system of '{place.Parent}'. Nothing was changed. Free some space (a new checkpoint is written beside the old one), save elsewhere, or keep fewer with `keepLast`.");
    }

    /// <summary>What this user may write; null where the system does not tell.</summary>
    private static long? AvailableAt(string folder)
    {
        try
        {
            return new DriveInfo(OperatingSystem.IsWindows() ? Path.GetPathRoot(folder)! : folder).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }
}
