using System.Text;
using System.Text.RegularExpressions;

namespace FabricSharp.Checkpointing;

/// <summary>
/// What killed processes left beside checkpoints. From before a folder <c>….tmp</c> is made until after it has its name, its writer holds a lock on the file
/// <c>….lock</c> beside it. The system releases it when the process ends, however it ends: a folder whose lock can be taken is nobody's any more.
/// </summary>
internal static partial class Leftovers
{
    /// <summary>Some network file systems do not lock: what another machine wrote, and a folder without a lock, has to be this old.</summary>
    private static readonly TimeSpan Doubtful = TimeSpan.FromHours(24);

    /// <summary>Marks the folder <paramref name="temporary"/> as being written until the result is disposed, which takes the mark away.</summary>
    public static IDisposable Lock(string temporary)
    {
        var file = OpenLock(LockOf(temporary));
        file.Write(Encoding.UTF8.GetBytes(Environment.MachineName)); // only now: what has no name in it yet is not abandoned
        file.Flush();
        return file;
    }

    public static string LockOf(string temporary) => Path.ChangeExtension(temporary, ".lock");

    /// <summary>Removes what was left in the folder that <paramref name="place"/> is in, by savers of any checkpoint there. What cannot be removed stays.</summary>
    public static void RemoveBeside(CheckpointPlace place)
    {
        if (!Directory.Exists(place.Parent))
            return;
        foreach (var path in Directory.GetFileSystemEntries(place.Parent))
            if (RemovedName().IsMatch(path))
                CheckpointPlace.TryDelete(path);
            else if (LockName().IsMatch(path))
                RemoveIfAbandoned(path);
            else if (TemporaryName().IsMatch(path) && !File.Exists(LockOf(path)) && IsOld(path))
                CheckpointPlace.TryDelete(path);
    }

    /// <summary>Another saver that looks for leftovers may hold the lock for a moment.</summary>
    private static FileStream OpenLock(string path)
    {
        var options = new FileStreamOptions { Mode = FileMode.OpenOrCreate, Access = FileAccess.ReadWrite, Share = FileShare.None, Options = FileOptions.DeleteOnClose };
        for (var attempt = 1; ; attempt++)
            try
            {
                return new FileStream(path, options);
            }
            catch (IOException e) when (attempt < 100 && e is not (DirectoryNotFoundException or FileNotFoundException))
            {
                Thread.Yield();
            }
    }

    private static void RemoveIfAbandoned(string file)
    {
        try
        {
            using var taken = new FileStream(file, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            using var reader = new StreamReader(taken);
            if (reader.ReadToEnd() != Environment.MachineName && !IsOld(file))
                return;
            CheckpointPlace.TryDelete(Path.ChangeExtension(file, ".tmp"));
            File.Delete(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // its writer lives, or removed it just now
        }
    }

    private static bool IsOld(string path) => TimeProvider.System.GetUtcNow().UtcDateTime - File.GetLastWriteTimeUtc(path) > Doubtful;

    [GeneratedRegex(@"\.[0-9a-f]{12}\.tmp\z")]
    private static partial Regex TemporaryName();

    [GeneratedRegex(@"\.[0-9a-f]{12}\.lock\z")]
    private static partial Regex LockName();

    [GeneratedRegex(@"\.[0-9a-f]{12}\.removed\z")]
    private static partial Regex RemovedName();
}
