using System.Text;
using System.Text.RegularExpressions;

namespace FabricSharp.Checkpointing;

/// <summary>
/// What killed processes left beside checkpoints. While a folder is being written, its writer holds a lock on a file in it, which the system
/// releases when the process ends, however it ends: a folder whose lock can be taken is nobody's any more.
/// </summary>
internal static partial class Leftovers
{
    public const string LockName = "writing.lock";

    /// <summary>Some network file systems do not lock: a folder of another machine, and one without a lock, has to be this old.</summary>
    private static readonly TimeSpan Doubtful = TimeSpan.FromHours(24);

    /// <summary>Marks <paramref name="folder"/> as being written until the result is disposed, which takes the mark away.</summary>
    public static IDisposable Lock(string folder)
    {
        var file = OpenLock(Path.Combine(folder, LockName));
        file.Write(Encoding.UTF8.GetBytes(Environment.MachineName)); // only now: what has no name in it yet is not abandoned
        file.Flush();
        return file;
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

    /// <summary>Removes what was left in the folder that <paramref name="place"/> is in, by savers of any checkpoint there. What cannot be removed stays.</summary>
    public static void RemoveBeside(CheckpointPlace place)
    {
        if (!Directory.Exists(place.Parent))
            return;
        foreach (var folder in Directory.EnumerateDirectories(place.Parent))
            if (RemovedName().IsMatch(folder) || (TemporaryName().IsMatch(folder) && IsAbandoned(folder)))
                CheckpointPlace.TryDelete(folder);
    }

    private static bool IsAbandoned(string folder)
    {
        try
        {
            var file = Path.Combine(folder, LockName);
            if (!File.Exists(file))
                return IsOld(folder); // it may have been made this moment, or be on its way to its place
            using var taken = new FileStream(file, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            using var reader = new StreamReader(taken);
            return reader.ReadToEnd() is var machine && (machine == Environment.MachineName || IsOld(folder));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false; // its writer lives, or removed it just now
        }
    }

    private static bool IsOld(string folder) => TimeProvider.System.GetUtcNow().UtcDateTime - Directory.GetLastWriteTimeUtc(folder) > Doubtful;

    [GeneratedRegex(@"\.[0-9a-f]{12}\.tmp\z")]
    private static partial Regex TemporaryName();

    [GeneratedRegex(@"\.[0-9a-f]{12}\.removed\z")]
    private static partial Regex RemovedName();
}
