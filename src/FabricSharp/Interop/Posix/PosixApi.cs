using System.Runtime.InteropServices;

namespace FabricSharp.Interop.Posix;

/// <summary>The few system calls that .NET does not offer. Linux only; each caller checks <see cref="IsSupported"/>.</summary>
internal static unsafe partial class PosixApi
{
    private const long FutexX64 = 202, FutexArm64 = 98;
    private const int FutexWait = 0, FutexWake = 1; // not FUTEX_PRIVATE: the word lies in memory that processes share

    public static bool IsSupported { get; } =
        OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture is Architecture.X64 or Architecture.Arm64;

    private static long FutexNumber => RuntimeInformation.ProcessArchitecture == Architecture.X64 ? FutexX64 : FutexArm64;

    /// <summary>Sleeps while <c>*word == expected</c>, at most <paramref name="timeout"/>; may return early for no reason.</summary>
    public static void WaitOnWord(int* word, int expected, TimeSpan timeout)
    {
        var limit = new Timespec { Seconds = (long)timeout.TotalSeconds, Nanoseconds = timeout.Ticks % TimeSpan.TicksPerSecond * 100 };
        Syscall(FutexNumber, word, FutexWait, expected, &limit, null, 0);
    }

    /// <summary>Wakes everyone who sleeps on <paramref name="word"/>, in any process.</summary>
    public static void WakeWord(int* word) => Syscall(FutexNumber, word, FutexWake, int.MaxValue, null, null, 0);

    /// <summary>Ends this process at once, without running anything more of it.</summary>
    public static void ExitNow(int code) => UnderscoreExit(code);

    /// <summary>Sends <paramref name="signal"/>; false when there is no such process or no right to.</summary>
    public static bool Signal(int processId, int signal) => Kill(processId, signal) == 0;

    public static int ParentProcessId => GetParentProcessId();

    [StructLayout(LayoutKind.Sequential)]
    private struct Timespec
    {
        public long Seconds;
        public long Nanoseconds;
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = false)]
    private static partial long Syscall(long number, int* word, long operation, long value, Timespec* timeout, void* word2, long value3);

    [LibraryImport("libc", EntryPoint = "_exit")]
    private static partial void UnderscoreExit(int code);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int processId, int signal);

    [LibraryImport("libc", EntryPoint = "getppid")]
    private static partial int GetParentProcessId();
}
