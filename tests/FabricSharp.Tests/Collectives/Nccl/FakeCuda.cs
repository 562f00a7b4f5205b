using System.Collections.Concurrent;
using System.Runtime.InteropServices;

namespace FabricSharp.Tests.Collectives.Nccl;

/// <summary>
/// A CUDA runtime of unmanaged functions over threads: a stream is a thread that carries out what is put on it, in order. Stream 0, libtorch's, is at the
/// point of the call at once, as operations on CPU tensors are. What is done to streams of the wrong device, or without a current one, is an error.
/// </summary>
internal static unsafe class FakeCuda
{
    public const int DeviceCount = 16;

    private const int InvalidValue = 1, NotReady = 600;

    private static readonly ConcurrentDictionary<IntPtr, FakeStream> Streams = new();
    private static readonly ConcurrentDictionary<IntPtr, FakeEvent> Events = new();
    private static readonly IntPtr ErrorText = Marshal.StringToCoTaskMemUTF8("a simulated error");
    private static long _handles = 1000;

    /// <summary>Devices that are the same hardware as another one.</summary>
    private static readonly ConcurrentDictionary<int, int> Aliases = new();

    [ThreadStatic]
    private static int _device;

    public static int CurrentDevice => _device;

    /// <summary>Streams and events that exist on a device.</summary>
    public static (int Streams, int Events) CountOn(int device) => (Streams.Values.Count(s => s.Device == device), Events.Values.Count(e => e.Device == device));

    /// <summary>What was put on the streams of a device so far, by stream.</summary>
    public static List<string>[] TracesOf(int device) => [.. Streams.Values.Where(stream => stream.Device == device).Select(stream => stream.Trace.ToList())];

    /// <summary>What libtorch's stream of a device was made to wait for so far.</summary>
    public static int ComputationWaits(int device) => Waits.GetValueOrDefault(device);

    private static readonly ConcurrentDictionary<int, int> Waits = new();

    /// <summary>Makes two device numbers one piece of hardware while the result lives.</summary>
    public static IDisposable Alias(int device, int other)
    {
        Aliases[device] = other;
        return new Undo(() => Aliases.TryRemove(device, out _));
    }

    public static IntPtr Export(string name) => name switch
    {
        "cudaGetDeviceCount" => (IntPtr)(delegate* unmanaged<int*, int>)&GetDeviceCount,
        "cudaGetDevice" => (IntPtr)(delegate* unmanaged<int*, int>)&GetDevice,
        "cudaSetDevice" => (IntPtr)(delegate* unmanaged<int, int>)&SetDevice,
        "cudaDeviceGetPCIBusId" => (IntPtr)(delegate* unmanaged<byte*, int, int, int>)&GetBusId,
        "cudaStreamCreateWithFlags" => (IntPtr)(delegate* unmanaged<IntPtr*, uint, int>)&CreateStream,
        "cudaStreamDestroy" => (IntPtr)(delegate* unmanaged<IntPtr, int>)&DestroyStream,
        "cudaEventCreateWithFlags" => (IntPtr)(delegate* unmanaged<IntPtr*, uint, int>)&CreateEvent,
        "cudaEventDestroy" => (IntPtr)(delegate* unmanaged<IntPtr, int>)&DestroyEvent,
        "cudaEventRecord" => (IntPtr)(delegate* unmanaged<IntPtr, IntPtr, int>)&Record,
        "cudaStreamWaitEvent" => (IntPtr)(delegate* unmanaged<IntPtr, IntPtr, uint, int>)&WaitEvent,
        "cudaEventQuery" => (IntPtr)(delegate* unmanaged<IntPtr, int>)&Query,
        "cudaGetErrorString" => (IntPtr)(delegate* unmanaged<int, IntPtr>)&GetErrorString,
        "aoti_torch_get_current_cuda_stream" => (IntPtr)(delegate* unmanaged<int, IntPtr*, int>)&CurrentStream,
        _ => throw new EntryPointNotFoundException(name),
    };

    public static FakeStream? StreamOf(IntPtr handle) => Streams.GetValueOrDefault(handle);

    [UnmanagedCallersOnly]
    private static int GetDeviceCount(int* count)
    {
        *count = DeviceCount;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int GetDevice(int* device)
    {
        *device = _device;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int SetDevice(int device)
    {
        if (device is < 0 or >= DeviceCount)
            return InvalidValue;
        _device = device;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int GetBusId(byte* text, int length, int device)
    {
        var id = System.Text.Encoding.ASCII.GetBytes($"0000:{Aliases.GetValueOrDefault(device, device):X2}:00.0\0");
        if (id.Length > length)
            return InvalidValue;
        id.CopyTo(new Span<byte>(text, length));
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int CreateStream(IntPtr* stream, uint flags)
    {
        if (flags != 1)
            return InvalidValue;
        *stream = (IntPtr)Interlocked.Increment(ref _handles);
        Streams[*stream] = new FakeStream(_device);
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int DestroyStream(IntPtr handle)
    {
        if (!Streams.TryRemove(handle, out var stream))
            return InvalidValue;
        stream.End();
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int CreateEvent(IntPtr* made, uint flags)
    {
        if (flags != 2)
            return InvalidValue;
        *made = (IntPtr)Interlocked.Increment(ref _handles);
        Events[*made] = new FakeEvent(_device);
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int DestroyEvent(IntPtr handle) => Events.TryRemove(handle, out _) ? 0 : InvalidValue;

    [UnmanagedCallersOnly]
    private static int Record(IntPtr handle, IntPtr stream)
    {
        if (!Events.TryGetValue(handle, out var one) || one.Device != _device)
            return InvalidValue;
        var recorded = new ManualResetEventSlim(stream == 0);
        one.Recorded = recorded;
        return stream == 0 || Put(stream, "record", recorded.Set) ? 0 : InvalidValue;
    }

    [UnmanagedCallersOnly]
    private static int WaitEvent(IntPtr stream, IntPtr handle, uint flags)
    {
        if (flags != 0 || !Events.TryGetValue(handle, out var one) || one.Recorded is not { } recorded)
            return InvalidValue;
        if (stream == 0)
            Waits.AddOrUpdate(_device, 1, (_, count) => count + 1);
        return stream == 0 || Put(stream, "wait", recorded.Wait) ? 0 : InvalidValue;
    }

    private static bool Put(IntPtr handle, string what, Action action) =>
        Streams.TryGetValue(handle, out var stream) && stream.Device == _device && stream.Put(what, action);

    [UnmanagedCallersOnly]
    private static int Query(IntPtr handle)
    {
        if (!Events.TryGetValue(handle, out var one) || one.Recorded is not { } recorded)
            return InvalidValue;
        return recorded.IsSet ? 0 : NotReady;
    }

    [UnmanagedCallersOnly]
    private static IntPtr GetErrorString(int code) => ErrorText;

    [UnmanagedCallersOnly]
    private static int CurrentStream(int device, IntPtr* stream)
    {
        *stream = 0;
        return device is >= 0 and < DeviceCount ? 0 : 1;
    }

    internal sealed class FakeStream
    {
        private readonly BlockingCollection<Action> _actions = [];

        public FakeStream(int device)
        {
            Device = device;
            new Thread(() =>
            {
                foreach (var action in _actions.GetConsumingEnumerable())
                    action();
            }) { IsBackground = true, Name = "simulated stream" }.Start();
        }

        public int Device { get; }

        public ConcurrentQueue<string> Trace { get; } = new();

        public bool Put(string what, Action action)
        {
            Trace.Enqueue(what);
            return _actions.TryAdd(action);
        }

        public void End() => _actions.CompleteAdding();
    }

    private sealed class FakeEvent(int device)
    {
        public int Device => device;

        public volatile ManualResetEventSlim? Recorded;
    }

    private sealed class Undo(Action action) : IDisposable
    {
        public void Dispose() => action();
    }
}
