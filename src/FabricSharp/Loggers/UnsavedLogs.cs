using System.Runtime.InteropServices;

namespace FabricSharp.Loggers;

/// <summary>
/// The loggers that hold something in memory that is not in their file yet: saved when the process ends, in whatever way it still can say
/// so. Only a process that is killed outright loses them.
/// </summary>
internal static class UnsavedLogs
{
    /// <summary>A logger may be in the hands of a thread that hangs.</summary>
    private static readonly TimeSpan LimitPerLogger = TimeSpan.FromSeconds(2);

    private static readonly Lock Gate = new();
    private static readonly HashSet<FileLogger> Loggers = [];
    private static readonly List<PosixSignalRegistration> Signals = [];

    static UnsavedLogs()
    {
        AppDomain.CurrentDomain.ProcessExit += (_, _) => SaveAll();
        AppDomain.CurrentDomain.UnhandledException += (_, _) => SaveAll();
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP })
            Signals.Add(PosixSignalRegistration.Create(signal, _ => SaveAll())); // the signal then does what it does
    }

    public static void Add(FileLogger logger)
    {
        lock (Gate)
            Loggers.Add(logger);
    }

    public static void Remove(FileLogger logger)
    {
        lock (Gate)
            Loggers.Remove(logger);
    }

    /// <summary>For every way out that runs nothing more of this process. Throws nothing.</summary>
    public static void SaveAll()
    {
        FileLogger[] loggers;
        lock (Gate)
            loggers = [.. Loggers];
        foreach (var logger in loggers)
            logger.TrySave(LimitPerLogger);
    }
}
