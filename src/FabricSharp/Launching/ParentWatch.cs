using System.Globalization;
using FabricSharp.Interop.Posix;

namespace FabricSharp.Launching;

/// <summary>In a process that a launcher started: ends it as soon as the launcher's process is gone, whatever ended that.</summary>
internal static class ParentWatch
{
    /// <summary>Set by the launcher to its process number.</summary>
    public const string Variable = "FABRIC_LAUNCHER_PID";

    private const int KilledExitCode = 137;
    private static int _started;

    public static void StartWhereLaunched()
    {
        if (!int.TryParse(Environment.GetEnvironmentVariable(Variable), NumberStyles.None, CultureInfo.InvariantCulture, out var parent))
            return;
        if (!PosixApi.IsSupported || Interlocked.Exchange(ref _started, 1) != 0)
            return;
        PeerFailure.LetTheCauseBeShownFirst();
        new Thread(() => Watch(parent)) { IsBackground = true, Name = "FabricSharp parent watch" }.Start();
    }

    private static void Watch(int parent)
    {
        if (PosixApi.ParentProcessId != parent || !PosixApi.WaitForEndOf(parent))
        {
            using var never = new ManualResetEvent(false);
            while (PosixApi.ParentProcessId == parent)
                never.WaitOne(TimeSpan.FromMilliseconds(100));
        }

        PosixApi.ExitNow(KilledExitCode);
    }
}
