using FabricSharp.Interop.Posix;

namespace FabricSharp.Checkpointing;

/// <summary>
/// The place of a checkpoint in the file system, and how a new one replaces an old one. Beside <c>NAME</c> there may be:
/// <list type="bullet">
/// <item><c>NAME.RANDOM.tmp</c>, one that is being written, or a part that a killed process left; never read. Whether its writer lives is told by a lock
/// on <c>NAME.RANDOM.lock</c> (<see cref="Leftovers"/>).</item>
/// <item><c>NAME.RANDOM.removed</c>, one that is being removed; never read.</item>
/// <item><c>NAME.fabric-old</c>, the complete old one, while the new one takes its place. Where <c>NAME</c> is missing (the process died between the two
/// renames) it <i>is</i> the checkpoint; where <c>NAME</c> exists it is waste. The next save removes it once <c>NAME</c> is in place.</item>
/// </list>
/// </summary>
internal sealed class CheckpointPlace
{
    public CheckpointPlace(string path)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        Path = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path));
        Parent = System.IO.Path.GetDirectoryName(Path) ?? throw new ArgumentException($"'{path}' is the root of a file system and cannot be a checkpoint. Name a folder below it.", nameof(path));
    }

    /// <summary>The full path.</summary>
    public string Path { get; }

    /// <summary>The folder that it is in.</summary>
    public string Parent { get; }

    /// <summary>Where the old one waits while it is replaced.</summary>
    public string OldPath => Path + ".fabric-old";

    /// <summary>Where the checkpoint is right now; null when there is none.</summary>
    public string? Locate()
    {
        // A save that goes on meanwhile moves it away and puts the next one there: look again where both are missing for a moment.
        for (var look = 0; look < 3; look++)
            if (Exists(Path))
                return Path;
            else if (Exists(OldPath))
                return OldPath;
        return null;
    }

    /// <summary>Writes a folder and puts it into this place. When anything fails, the old one is there as before and nothing else is.</summary>
    /// <param name="fill">Gets the folder to write into.</param>
    public void Write(Action<string> fill)
    {
        RequireReplaceable();
        Directory.CreateDirectory(Parent);
        var temporary = $"{Path}.{NewName()}.tmp";
        using var living = Leftovers.Lock(temporary);
        try
        {
            Directory.CreateDirectory(temporary);
            fill(temporary);
            FlushFolder(temporary);
            Replace(temporary);
        }
        catch
        {
            TryDelete(temporary);
            throw;
        }

        TryDelete(OldPath);
    }

    /// <summary>Moves the old one aside and <paramref name="complete"/> into its place.</summary>
    internal void Replace(string complete)
    {
        if (Exists(Path))
        {
            Delete(OldPath);
            Directory.Move(Path, OldPath);
        }

        try
        {
            Directory.Move(complete, Path);
        }
        catch when (!Exists(Path) && Exists(OldPath))
        {
            Directory.Move(OldPath, Path);
            throw;
        }

        FlushFolder(Parent);
    }

    /// <summary>Removes the checkpoint in one moment, so that no part of it is ever taken for a whole.</summary>
    public void Remove()
    {
        foreach (var path in new[] { OldPath, Path }) // the old one first: alone it would be the checkpoint
            if (Exists(path))
            {
                var removed = $"{Path}.{NewName()}.removed";
                Directory.Move(path, removed);
                TryDelete(removed);
            }
    }

    private static string NewName() => Guid.NewGuid().ToString("N")[..12];

    /// <summary>Saving removes what was there before: that must not hit a folder of something else.</summary>
    private void RequireReplaceable()
    {
        if (Directory.Exists(Path) && Directory.EnumerateFileSystemEntries(Path).Any() && !File.Exists(System.IO.Path.Combine(Path, CheckpointManifest.FileName)))
            throw new ArgumentException($"The checkpoint path '{Path}' exists and is a folder that is no checkpoint (it has no {CheckpointManifest.FileName}): it would be deleted. Save to a new name inside it, or remove it first.", "path");
    }

    private static bool Exists(string path) => Directory.Exists(path) || File.Exists(path);

    private static void Delete(string path)
    {
        if (Directory.Exists(path))
            Directory.Delete(path, recursive: true);
        else
            File.Delete(path);
    }

    /// <summary>What cannot be removed is waste, not an error: the checkpoint is where it should be.</summary>
    internal static void TryDelete(string path)
    {
        try
        {
            Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
        }
    }

    private static void FlushFolder(string folder)
    {
        if (PosixApi.IsSupported)
            PosixApi.FlushFolder(folder);
    }
}
