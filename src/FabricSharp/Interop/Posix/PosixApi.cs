using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

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

    /// <summary>
    /// Returns when process <paramref name="processId"/> has ended. False when the kernel cannot tell (before Linux 5.3, or no such process).
    /// </summary>
    public static bool WaitForEndOf(int processId)
    {
        const long PidfdOpen = 434; // the same number on all architectures
        const short PollIn = 1;
        var descriptor = (int)Syscall(PidfdOpen, (int*)processId, 0, 0, null, null, 0);
        if (descriptor < 0)
            return false;
        var request = new PollRequest { Descriptor = descriptor, Events = PollIn };
        while (Poll(&request, 1, -1) < 0)
        {
            // interrupted by a signal: again
        }

        Close(descriptor);
        return true;
    }

    /// <summary>Brings the names in <paramref name="folder"/> to the disk, so that a rename survives a power failure. Does nothing where the file system cannot.</summary>
    public static void FlushFolder(string folder)
    {
        const int ReadOnly = 0;
        var descriptor = Open(folder, ReadOnly);
        if (descriptor < 0)
            return;
        FileSync(descriptor);
        Close(descriptor);
    }

    /// <summary>Has the disk begin to write a part of a file, without waiting for it. Does nothing where the file system cannot.</summary>
    public static void BeginWriteback(SafeFileHandle file, long offset, long length)
    {
        const uint SyncFileRangeWrite = 2;
        SyncFileRange(file, offset, length, SyncFileRangeWrite);
    }

    /// <summary>Has the disk begin to read a part of a file into memory, without waiting for it. Does nothing where the file system cannot.</summary>
    public static void BeginReading(SafeFileHandle file, long offset, long length)
    {
        const int WillNeed = 3;
        Advise(file, offset, length, WillNeed);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Timespec
    {
        public long Seconds;
        public long Nanoseconds;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PollRequest
    {
        public int Descriptor;
        public short Events;
        public short Results;
    }

    [LibraryImport("libc", EntryPoint = "poll")]
    private static partial int Poll(PollRequest* requests, ulong count, int milliseconds);

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync")]
    private static partial int FileSync(int descriptor);

    [LibraryImport("libc", EntryPoint = "sync_file_range")]
    private static partial int SyncFileRange(SafeFileHandle file, long offset, long length, uint flags);

    [LibraryImport("libc", EntryPoint = "posix_fadvise")]
    private static partial int Advise(SafeFileHandle file, long offset, long length, int advice);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = false)]
    private static partial long Syscall(long number, int* word, long operation, long value, Timespec* timeout, void* word2, long value3);

    [LibraryImport("libc", EntryPoint = "_exit")]
    private static partial void UnderscoreExit(int code);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int processId, int signal);

    [LibraryImport("libc", EntryPoint = "getppid")]
    private static partial int GetParentProcessId();
}
