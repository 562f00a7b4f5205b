using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using TorchSharp;

namespace FabricSharp.Interop.LibTorch;

/// <summary>Memory that libtorch may make tensors in. Its members are called from native code, on any thread, and must not throw.</summary>
internal interface ITensorMemory
{
    /// <summary>First byte and the byte after the last.</summary>
    (IntPtr Begin, IntPtr End) Range { get; }

    /// <summary>Memory for a tensor of exactly <paramref name="bytes"/>; null where there is none, and libtorch allocates as usual.</summary>
    IntPtr TryAllocate(nuint bytes);

    /// <summary>A tensor over <paramref name="data"/>, made by <see cref="TryAllocate"/> or <see cref="CpuAllocator.TensorOver"/>, is gone.</summary>
    void Release(IntPtr data);
}

/// <summary>
/// Has libtorch allocate some CPU tensors in memory of ours: a gradient is then born where the other ranks can read it. While a thread is inside
/// <see cref="Serve"/>, its allocations are offered to the given memory first; all others go to libtorch's own allocator.
/// See docs/design/gradient-hooks.md, "Gradients born in shared memory".
/// </summary>
internal static unsafe class CpuAllocator
{
    /// <summary>Set to <c>off</c> to do without.</summary>
    public const string SwitchVariable = "FABRIC_GRADIENT_ALLOCATOR";

    /// <summary>Tensors on the processor have no device number.</summary>
    private const sbyte NoIndex = -1;

    private static readonly Lazy<string?> Probe = new(RunProbe);
    private static readonly Lock Gate = new();

    /// <summary>Everything that tensors may lie in; replaced as a whole under <see cref="Gate"/>, read without.</summary>
    private static ITensorMemory[] _memories = [];

    /// <summary>What serves this thread's allocations.</summary>
    [ThreadStatic]
    private static ITensorMemory[]? _serving;

    public static bool IsSupported => Probe.Value is null;

    /// <summary>Why <see cref="IsSupported"/> is false; null when it is true.</summary>
    public static string? NotSupportedReason => Probe.Value;

    /// <summary>Makes the memory known. To be called before a tensor lies in it.</summary>
    public static void Register(ITensorMemory memory)
    {
        lock (Gate)
            Volatile.Write(ref _memories, [.. _memories, memory]);
    }

    /// <summary>To be called when no tensor lies in it any more.</summary>
    public static void Unregister(ITensorMemory memory)
    {
        lock (Gate)
            Volatile.Write(ref _memories, [.. _memories.Where(one => one != memory)]);
    }

    /// <summary>Offers this thread's allocations to <paramref name="memories"/> until the result is disposed, on the same thread.</summary>
    public static Serving Serve(ITensorMemory[] memories)
    {
        if (memories.Length == 0 || !IsSupported)
            return default;
        Native.StandBefore();
        var before = _serving;
        _serving = memories;
        return new Serving(before, isActive: true);
    }

    /// <summary>A flat tensor over registered memory; <see cref="ITensorMemory.Release"/> is called when its storage is gone.</summary>
    public static torch.Tensor TensorOver(IntPtr data, long elementCount, torch.ScalarType type)
    {
        var handle = LibTorchLibrary.Api.NewTensorFromMemory(
            data, (IntPtr)(delegate* unmanaged<IntPtr, void>)&Free, &elementCount, 1, (sbyte)type, (sbyte)type, (int)DeviceType.CPU, 0, 0);
        if (handle != IntPtr.Zero)
            return torch.Tensor.UnsafeCreateTensor(handle);
        torch.CheckForErrors();
        throw new InvalidOperationException($"libtorch made no tensor over {elementCount} elements of {type} at 0x{data:x}.");
    }

    private static string? RunProbe()
    {
        if (Environment.GetEnvironmentVariable(SwitchVariable) is { } wanted && (wanted.Equals("off", StringComparison.OrdinalIgnoreCase) || wanted is "0"))
            return $"switched off by {SwitchVariable}={wanted}";
        if (!LibTorchLibrary.IsSupported)
            return LibTorchLibrary.NotSupportedReason;
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
            return "the allocator was verified on x64 only"; // elsewhere C++ returns objects in another way
        try
        {
            return Native.Prepare() ?? SelfTest();
        }
        catch (Exception e) when (e is InvalidOperationException or ExternalException or ArgumentException)
        {
            return $"the self-test of the allocator failed: {e.Message}";
        }
    }

    /// <summary>A tensor of an odd size is to lie in our memory, and to give it back once.</summary>
    private static string? SelfTest()
    {
        const int Elements = 12347;
        using var memory = new TestMemory(Elements * sizeof(float));
        Register(memory);
        Native.StandBefore();
        _serving = [memory];
        try
        {
            using var scope = torch.NewDisposeScope();
            var inside = torch.empty(Elements);
            _serving = null;
            var outside = torch.empty(Elements);
            if (TensorMemory.PointerOf(inside) != memory.Range.Begin || TensorMemory.PointerOf(outside) == memory.Range.Begin)
                return "the self-test of the allocator found a tensor in the wrong place";
            if (!CountsStorages(inside))
                return "the position of a storage's use count is another one";
        }
        finally
        {
            _serving = null;
            Native.StandBack();
            Unregister(memory);
        }

        return memory.Released == 1 ? null : $"the self-test of the allocator saw {memory.Released} releases instead of 1";
    }

    private static bool CountsStorages(torch.Tensor tensor)
    {
        var alone = GradientAccess.StorageUseCount(tensor.Handle);
        using var view = tensor.view(-1, 1);
        var two = GradientAccess.StorageUseCount(tensor.Handle);
        using var third = view.detach();
        return (alone, two, GradientAccess.StorageUseCount(third.Handle)) == (1, 2, 3);
    }

    [UnmanagedCallersOnly]
    private static IntPtr Allocate(DataPointer* result, IntPtr self, nuint bytes)
    {
        if (_serving is { } memories)
            foreach (var memory in memories)
                if (memory.TryAllocate(bytes) is var data && data != IntPtr.Zero)
                {
                    *result = new DataPointer { Data = data, Context = data, Deleter = (IntPtr)(delegate* unmanaged<IntPtr, void>)&Free, DeviceIndex = NoIndex };
                    return (IntPtr)result;
                }

        return Native.DefaultAllocate(result, Native.Default, bytes);
    }

    [UnmanagedCallersOnly]
    private static void Free(IntPtr data)
    {
        foreach (var memory in Volatile.Read(ref _memories))
        {
            var (begin, end) = memory.Range;
            if ((nuint)data >= (nuint)begin && (nuint)data < (nuint)end)
            {
                memory.Release(data);
                return;
            }
        }

        if (data != IntPtr.Zero)
            Native.DefaultFree(data); // memory that was allocated without a DataPtr, through raw_deleter
    }

    [UnmanagedCallersOnly]
    private static IntPtr RawDeleter(IntPtr self) => (IntPtr)(delegate* unmanaged<IntPtr, void>)&Free;

    /// <summary>Ends the serving.</summary>
    internal readonly ref struct Serving(ITensorMemory[]? before, bool isActive)
    {
        private readonly ITensorMemory[]? _before = before;
        private readonly bool _isActive = isActive;

        public void Dispose()
        {
            if (!_isActive)
                return;
            _serving = _before;
            Native.StandBack();
        }
    }

    /// <summary>c10::DataPtr as libstdc++ lays it out: data, then unique_ptr (a tuple, last element first: deleter, context), then device.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct DataPointer
    {
        public IntPtr Data;
        public IntPtr Deleter;
        public IntPtr Context;
        public sbyte DeviceType;
        public sbyte DeviceIndex;
    }

    /// <summary>libtorch's side: its own allocator, and the object of ours that stands before it.</summary>
    private static class Native
    {
        private const int VirtualAllocate = 2, VirtualRawDeleter = 4, VirtualCount = 6;

        public static IntPtr Default { get; private set; }

        public static delegate* unmanaged<DataPointer*, IntPtr, nuint, IntPtr> DefaultAllocate { get; private set; }

        public static delegate* unmanaged<IntPtr, void> DefaultFree { get; private set; }

        private static IntPtr _ours;

        /// <summary>Threads that are being served; guarded by <see cref="Gate"/>.</summary>
        private static int _served;

        /// <summary>
        /// Makes an allocator of ours: the vtable of c10::Allocator (complete destructor, deleting destructor, allocate,
        /// is_simple_data_ptr, raw_deleter, copy_data) is the default one's but for allocate and raw_deleter.
        /// </summary>
        public static string? Prepare()
        {
            var api = LibTorchLibrary.Api;
            Default = api.GetCpuAllocator();
            var defaultTable = *(IntPtr**)Default;
            DefaultAllocate = (delegate* unmanaged<DataPointer*, IntPtr, nuint, IntPtr>)defaultTable[VirtualAllocate];
            DefaultFree = (delegate* unmanaged<IntPtr, void>)((delegate* unmanaged<IntPtr, IntPtr>)defaultTable[VirtualRawDeleter])(Default);
            if (DefaultFree == null)
                return "libtorch's CPU allocator has been replaced by one without a plain deleter";
            var sample = default(DataPointer);
            DefaultAllocate(&sample, Default, 64);
            if (sample.Data == IntPtr.Zero || sample.Context != sample.Data || sample.Deleter != (IntPtr)DefaultFree || sample.DeviceType != 0 || sample.DeviceIndex != NoIndex)
                return "the layout of c10::DataPtr is another one";
            DefaultFree(sample.Data);

            var table = (IntPtr*)RuntimeHelpers.AllocateTypeAssociatedMemory(typeof(CpuAllocator), (VirtualCount + 1) * IntPtr.Size);
            for (var i = 0; i < VirtualCount; i++)
                table[i] = defaultTable[i];
            table[VirtualAllocate] = (IntPtr)(delegate* unmanaged<DataPointer*, IntPtr, nuint, IntPtr>)&Allocate;
            table[VirtualRawDeleter] = (IntPtr)(delegate* unmanaged<IntPtr, IntPtr>)&RawDeleter;
            var self = &table[VirtualCount]; // the object: nothing but its vtable pointer
            *self = (IntPtr)table;
            _ours = (IntPtr)self;
            StandBefore();
            var isFirst = api.GetCpuAllocator() == _ours;
            StandBack();
            return isFirst ? null : "another CPU allocator has precedence";
        }

        /// <summary>Has allocations come to us first, as long as some thread is served.</summary>
        public static void StandBefore()
        {
            lock (Gate)
                if (_served++ == 0)
                    LibTorchLibrary.Api.SetCpuAllocator(_ours, 0);
        }

        public static void StandBack()
        {
            lock (Gate)
                if (--_served == 0)
                    LibTorchLibrary.Api.SetCpuAllocator(Default, 0);
        }
    }

    private sealed class TestMemory(int bytes) : ITensorMemory, IDisposable
    {
        private readonly IntPtr _data = (IntPtr)NativeMemory.AlignedAlloc((nuint)bytes, 64);

        public (IntPtr Begin, IntPtr End) Range => (_data, _data + bytes);

        public int Released { get; private set; }

        public IntPtr TryAllocate(nuint wanted) => wanted == (nuint)bytes ? _data : IntPtr.Zero;

        public void Release(IntPtr data) => Released++;

        public void Dispose() => NativeMemory.AlignedFree((void*)_data);
    }
}
