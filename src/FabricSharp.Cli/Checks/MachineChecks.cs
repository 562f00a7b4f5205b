using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using FabricSharp.Collectives;
using FabricSharp.Collectives.SharedMemory;
using FabricSharp.Interop.Mpi;

namespace FabricSharp.Cli.Checks;

/// <summary>What can be said of a machine without a program that uses it.</summary>
internal static class MachineChecks
{
    private const long ComfortableSharedMemory = 1L << 30;

    public static IEnumerable<Finding> All()
    {
        yield return Platform();
        yield return Cores();
        yield return SharedMemory();
        yield return StandardLibrary();
        yield return Loopback();
        yield return Mpi();
    }

    /// <summary>Only the mpi back end needs it.</summary>
    private static Finding Mpi() => MpiLibrary.IsSupported
        ? new("MPI", true, $"{MpiLibrary.Api.Version} ({MpiLibrary.Api.Name}, handles as of {MpiLibrary.Api.Abi}).")
        : new("MPI", true, $"Not available: {MpiLibrary.NotSupportedReason}.", "Needed for processGroupBackend: \"mpi\" only.");

    private static Finding Platform()
    {
        var hooks = OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture is Architecture.X64 or Architecture.Arm64;
        return new("platform", Environment.Is64BitProcess, RuntimeInformation.RuntimeIdentifier + ".", hooks ? null : "Gradients are averaged when Backward returns, without overlap: hooks need 64-bit Linux.");
    }

    private static Finding Cores()
    {
        var threads = Environment.GetEnvironmentVariable("OMP_NUM_THREADS");
        return new("cores", true, $"{Environment.ProcessorCount}, OMP_NUM_THREADS {threads ?? "not set: each rank gets its share"}.");
    }

    private static Finding SharedMemory()
    {
        try
        {
            var folder = SharedMemoryDirectory.Choose();
            var free = new DriveInfo(folder).AvailableFreeSpace;
            return free >= ComfortableSharedMemory
                ? new("shared memory", true, $"{folder}, {free >> 20} MiB free.")
                : new("shared memory", false, $"{folder}, {free >> 20} MiB free.", $"Gradients of all ranks must fit: raise it (containers: --shm-size=2g) or set {SharedMemoryDirectory.Variable} to a folder with room.");
        }
        catch (Exception e) when (e is DistributedException or IOException or UnauthorizedAccessException)
        {
            return new("shared memory", false, e.Message);
        }
    }

    /// <summary>TorchSharp's native library names GLIBCXX_3.4.32; the package's build step does without it.</summary>
    private static Finding StandardLibrary()
    {
        if (!OperatingSystem.IsLinux())
            return new("libstdc++", true, "not needed here.");
        var library = new[] { "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib" }
            .Select(folder => Path.Combine(folder, "libstdc++.so.6")).FirstOrDefault(File.Exists);
        if (library is null)
            return new("libstdc++", false, "libstdc++.so.6 was not found.", "Install it, on Debian and Ubuntu: apt-get install libstdc++6.");
        var isNew = File.ReadAllBytes(library).AsSpan().IndexOf("GLIBCXX_3.4.32"u8) >= 0;
        return new("libstdc++", true, isNew ? $"{library}, of GCC 13 or newer." : $"{library}, older than GCC 13's: programs that reference the FabricSharp package load TorchSharp all the same.");
    }

    private static Finding Loopback()
    {
        try
        {
            using var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            return new("loopback", true, $"ports can be opened on {IPAddress.Loopback}.");
        }
        catch (SocketException e)
        {
            return new("loopback", false, e.Message, "Ranks find each other over 127.0.0.1: allow it.");
        }
    }
}
