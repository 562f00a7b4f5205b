using System.Runtime.InteropServices;
using TorchSharp;

namespace FabricSharp.Interop.Cuda;

/// <summary>
/// The few functions of the CUDA runtime that a second stream beside libtorch's takes. Functions are found by name, so that another library
/// (in tests a simulated one) can stand behind them. A device is current per thread: see <see cref="MakeCurrent"/>.
/// </summary>
internal sealed unsafe class CudaRuntime
{
    private const int NotReady = 600;
    private const uint NonBlockingStream = 1;
    private const uint EventWithoutTiming = 2;

    private static readonly Lazy<(CudaRuntime? Runtime, string? Reason)> Probe = new(Load);

    private readonly delegate* unmanaged<int*, int> _getDeviceCount;
    private readonly delegate* unmanaged<int*, int> _getDevice;
    private readonly delegate* unmanaged<int, int> _setDevice;
    private readonly delegate* unmanaged<byte*, int, int, int> _getBusId;
    private readonly delegate* unmanaged<IntPtr*, uint, int> _createStream;
    private readonly delegate* unmanaged<IntPtr, int> _destroyStream;
    private readonly delegate* unmanaged<IntPtr*, uint, int> _createEvent;
    private readonly delegate* unmanaged<IntPtr, int> _destroyEvent;
    private readonly delegate* unmanaged<IntPtr, IntPtr, int> _recordEvent;
    private readonly delegate* unmanaged<IntPtr, IntPtr, uint, int> _waitEvent;
    private readonly delegate* unmanaged<IntPtr, int> _queryEvent;
    private readonly delegate* unmanaged<int, IntPtr> _getErrorString;
    private readonly delegate* unmanaged<int, IntPtr*, int> _getCurrentStream;

    /// <param name="export">The address of a function of the CUDA runtime, or of libtorch's C interface, by name.</param>
    /// <exception cref="EntryPointNotFoundException">One is missing.</exception>
    public CudaRuntime(Func<string, IntPtr> export)
    {
        _getDeviceCount = (delegate* unmanaged<int*, int>)export("cudaGetDeviceCount");
        _getDevice = (delegate* unmanaged<int*, int>)export("cudaGetDevice");
        _setDevice = (delegate* unmanaged<int, int>)export("cudaSetDevice");
        _getBusId = (delegate* unmanaged<byte*, int, int, int>)export("cudaDeviceGetPCIBusId");
        _createStream = (delegate* unmanaged<IntPtr*, uint, int>)export("cudaStreamCreateWithFlags");
        _destroyStream = (delegate* unmanaged<IntPtr, int>)export("cudaStreamDestroy");
        _createEvent = (delegate* unmanaged<IntPtr*, uint, int>)export("cudaEventCreateWithFlags");
        _destroyEvent = (delegate* unmanaged<IntPtr, int>)export("cudaEventDestroy");
        _recordEvent = (delegate* unmanaged<IntPtr, IntPtr, int>)export("cudaEventRecord");
        _waitEvent = (delegate* unmanaged<IntPtr, IntPtr, uint, int>)export("cudaStreamWaitEvent");
        _queryEvent = (delegate* unmanaged<IntPtr, int>)export("cudaEventQuery");
        _getErrorString = (delegate* unmanaged<int, IntPtr>)export("cudaGetErrorString");
        _getCurrentStream = (delegate* unmanaged<int, IntPtr*, int>)export("aoti_torch_get_current_cuda_stream");
    }

    /// <summary>The runtime that libtorch uses; null where there is none.</summary>
    public static CudaRuntime? Loaded => Probe.Value.Runtime;

    /// <summary>Why <see cref="Loaded"/> is null; null where it is not.</summary>
    public static string? MissingReason => Probe.Value.Reason;

    public int DeviceCount
    {
        get
        {
            int count;
            Check(_getDeviceCount(&count), "cudaGetDeviceCount");
            return count;
        }
    }

    /// <summary>
    /// Makes <paramref name="device"/> current on this thread, from now on: a rank has one device, and going back to another would make the runtime
    /// put up there, too, at the cost of its memory.
    /// </summary>
    public void MakeCurrent(int device)
    {
        int current;
        Check(_getDevice(&current), "cudaGetDevice");
        if (current != device)
            Check(_setDevice(device), "cudaSetDevice");
    }

    /// <summary>Which piece of hardware a device number means in this process, for example <c>0000:3B:00.0</c>.</summary>
    public string BusIdOf(int device)
    {
        const int Size = 32;
        var text = stackalloc byte[Size];
        Check(_getBusId(text, Size, device), "cudaDeviceGetPCIBusId");
        return Marshal.PtrToStringUTF8((IntPtr)text)!;
    }

    /// <summary>A stream of the current device that does not wait for the default stream.</summary>
    public IntPtr CreateStream()
    {
        IntPtr stream;
        Check(_createStream(&stream, NonBlockingStream), "cudaStreamCreateWithFlags");
        return stream;
    }

    public void DestroyStream(IntPtr stream) => Check(_destroyStream(stream), "cudaStreamDestroy");

    /// <summary>An event of the current device.</summary>
    public IntPtr CreateEvent()
    {
        IntPtr made;
        Check(_createEvent(&made, EventWithoutTiming), "cudaEventCreateWithFlags");
        return made;
    }

    public void DestroyEvent(IntPtr eventHandle) => Check(_destroyEvent(eventHandle), "cudaEventDestroy");

    /// <summary>The event has passed when everything that was put on the stream before has been done.</summary>
    public void Record(IntPtr eventHandle, IntPtr stream) => Check(_recordEvent(eventHandle, stream), "cudaEventRecord");

    /// <summary>What is put on the stream from now on begins when the event, as recorded last, has passed. Does not wait.</summary>
    public void WaitOnStream(IntPtr stream, IntPtr eventHandle) => Check(_waitEvent(stream, eventHandle, 0), "cudaStreamWaitEvent");

    public bool HasPassed(IntPtr eventHandle)
    {
        var code = _queryEvent(eventHandle);
        if (code == NotReady)
            return false;
        Check(code, "cudaEventQuery");
        return true;
    }

    /// <summary>The stream on which libtorch puts this thread's work of a device; zero is the default stream.</summary>
    public IntPtr CurrentStream(int device)
    {
        IntPtr stream;
        var status = _getCurrentStream(device, &stream);
        return status == 0 ? stream : throw new CudaException("aoti_torch_get_current_cuda_stream", status, "libtorch's own message is on standard error");
    }

    private void Check(int code, string function)
    {
        if (code != 0)
            throw new CudaException(function, code, Marshal.PtrToStringUTF8(_getErrorString(code)) ?? "unknown error");
    }

    private static (CudaRuntime? Runtime, string? Reason) Load()
    {
        if (!OperatingSystem.IsLinux())
            return (null, $"NCCL and the CUDA streams beside it are used on Linux only, this is {RuntimeInformation.RuntimeIdentifier}");
        try
        {
            if (!torch.cuda.is_available()) // loads libtorch's CUDA part where there is one
                return (null, "TorchSharp sees no CUDA device (torch.cuda.is_available() is false): the program needs a CUDA package of TorchSharp (TorchSharp-cuda-linux) instead of TorchSharp-cpu, and the machine an NVIDIA driver");
            if (LoadedLibraries.PathOf("libtorch_cuda.so") is not { } torchPath)
                return (null, "libtorch_cuda.so is not loaded");
            var torchCuda = NativeLibrary.Load(torchPath);
            var cudart = LoadRuntime();
            return cudart == IntPtr.Zero
                ? (null, "the CUDA runtime (libcudart.so) was found neither among the loaded libraries, nor beside libtorch_cuda.so, nor on the loader's path")
                : (new CudaRuntime(name => NativeLibrary.GetExport(name.StartsWith("aoti_", StringComparison.Ordinal) ? torchCuda : cudart, name)), null);
        }
        catch (Exception e) when (e is EntryPointNotFoundException or DllNotFoundException or BadImageFormatException or NotSupportedException or IOException or UnauthorizedAccessException or ExternalException)
        {
            return (null, $"the CUDA runtime cannot be used: {e.Message}");
        }
    }

    /// <summary>The one that libtorch has loaded comes first: both then know the same current device.</summary>
    private static IntPtr LoadRuntime()
    {
        string?[] candidates = [LoadedLibraries.PathOf("libcudart"), .. LoadedLibraries.Beside("libtorch_cuda.so", "libcudart*.so*"), "libcudart.so.12", "libcudart.so.13", "libcudart.so"];
        foreach (var candidate in candidates)
            if (candidate is not null && NativeLibrary.TryLoad(candidate, out var library))
                return library;
        return IntPtr.Zero;
    }
}
