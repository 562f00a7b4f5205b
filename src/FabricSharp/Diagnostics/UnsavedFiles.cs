using System.Runtime.InteropServices;

namespace FabricSharp.Diagnostics;

/// <summary>
/// Those that hold something in memory that is not in their file yet, loggers and traces: saved when the process ends, in whatever way it still can say
/// so. Only a process that is killed outright loses them.
/// </summary>
internal static class UnsavedFiles
{
    /// <summary>One may be in the hands of a thread that hangs.</summary>
    private static readonly TimeSpan LimitForEach = TimeSpan.FromSeconds(2);

    private static readonly Lock Gate = new();
    private static readonly HashSet<IUnsavedFile> Files = [];
    private static readonly List<PosixSignalRegistration> Signals = [];

    static UnsavedFiles()
    {
        AppDomain.CurrentDomain.ProcessExit += (_, _) => SaveAll();
        AppDomain.CurrentDomain.UnhandledException += (_, _) => SaveAll();
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP })
            Signals.Add(PosixSignalRegistration.Create(signal, _ => SaveAll())); // the signal then does what it does
    }

    public static void Add(IUnsavedFile file)
    {
        lock (Gate)
            Files.Add(file);
    }

    public static void Remove(IUnsavedFile file)
    {
        lock (Gate)
            Files.Remove(file);
    }

    /// <summary>For every way out that runs nothing more of this process. Throws nothing.</summary>
    public static void SaveAll()
    {
        IUnsavedFile[] files;
        lock (Gate)
            files = [.. Files];
        foreach (var file in files)
            file.TrySave(LimitForEach);
    }
}

/// <summary>Something that writes a file later than its content comes.</summary>
internal interface IUnsavedFile
{
    /// <summary>Saves if that can begin within <paramref name="limit"/>; a failure is only shown.</summary>
    bool TrySave(TimeSpan limit);
}
