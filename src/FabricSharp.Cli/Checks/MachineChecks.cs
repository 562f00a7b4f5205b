using System.Globalization;
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
    private const string UsualPort = "29500";

    public static IEnumerable<Finding> All()
    {
        yield return Platform();
        yield return Cores();
        yield return SharedMemory();
        yield return StandardLibrary();
        yield return Loopback();
        yield return Port();
        yield return Mpi();
        yield return Cuda();
        yield return Nccl();
    }

    /// <summary>Only the mpi back end needs it.</summary>
    private static Finding Mpi() => MpiLibrary.IsSupported
        ? new("MPI", true, $"{MpiLibrary.Api.Version} ({MpiLibrary.Api.Name}, handles as of {MpiLibrary.Api.Abi}).")
        : new("MPI", false, $"Not available: {MpiLibrary.NotSupportedReason}.", "For processGroupBackend: \"mpi\" and several machines only: apt-get install openmpi-bin.", IsNeeded: false);

    private static Finding Platform()
    {
        var hooks = OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture is Architecture.X64 or Architecture.Arm64;
        return new("platform", Environment.Is64BitProcess, RuntimeInformation.RuntimeIdentifier + ".", hooks ? null : "Gradients are averaged when Backward returns, without overlap: hooks need 64-bit Linux.");
    }

    private static Finding Cores()
    {
        var threads = Environment.GetEnvironmentVariable("OMP_NUM_THREADS");
        return new("cores", true, $"{Environment.ProcessorCount} cores, OMP_NUM_THREADS {threads ?? "not set: each rank gets its share"}.");
    }

    private static Finding SharedMemory()
    {
        try
        {
            var folder = SharedMemoryDirectory.Choose().Main;
            var drive = new DriveInfo(folder);
            var found = $"{folder} can be written, {drive.AvailableFreeSpace >> 20} of {drive.TotalSize >> 20} MiB free.";
            return drive.AvailableFreeSpace >= ComfortableSharedMemory
                ? new("shared memory", true, found, folder == Path.GetTempPath() ? "It is not /dev/shm, which cannot be written: slower where it lies on a disk." : null)
                : new("shared memory", false, found, $"Gradients of all ranks must fit: raise it (containers: --shm-size=2g) or set {SharedMemoryDirectory.Variable} to a folder with room.");
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
        var library = SharedLibraryFiles.Find(["libstdc++.so.6"]);
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

    /// <summary>Ranks that Fabric starts meet at any free port; those that something else starts, at the one that is set.</summary>
    private static Finding Port()
    {
        var text = Environment.GetEnvironmentVariable("MASTER_PORT");
        if (!ushort.TryParse(text ?? UsualPort, NumberStyles.None, CultureInfo.InvariantCulture, out var port))
            return new("port", false, $"MASTER_PORT={text} is no port.", "Set a number from 1 to 65535, or unset it.");
        var isSet = text is not null && port != 0;
        try
        {
            using var listener = new TcpListener(IPAddress.Any, port);
            listener.Start();
            return new("port", true, $"{port} is free{(isSet ? " (MASTER_PORT)" : "")}.", IsNeeded: isSet);
        }
        catch (SocketException e)
        {
            return new("port", false, $"{port} cannot be opened: {e.Message}.", "Set MASTER_PORT to a free one. (Ranks that fabric.Launch() starts by itself meet at any free port.)", isSet);
        }
    }

    private static Finding Cuda() => Optional("CUDA", ["libcuda.so.1"], "For GPUs: install NVIDIA's driver (containers: start them with access to the GPU), and bring a TorchSharp-cuda package.");

    private static Finding Nccl() => Optional("NCCL", ["libnccl.so.2"], "For several GPUs: apt-get install libnccl2.");

    private static Finding Optional(string name, string[] files, string fix) => SharedLibraryFiles.Find(files) is { } file
        ? new(name, true, $"{file}.", IsNeeded: false)
        : new(name, false, $"{files[0]} was not found.", fix, IsNeeded: false);
}
