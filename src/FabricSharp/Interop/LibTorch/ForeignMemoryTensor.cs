using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using TorchSharp;

namespace FabricSharp.Interop.LibTorch;

/// <summary>
/// CPU tensors over memory that libtorch does not own (a shared-memory mapping). The memory is released when the last tensor that
/// shares the storage is gone, whoever holds it, so that a gradient that outlives its reducer stays readable.
/// </summary>
internal static unsafe class ForeignMemoryTensor
{
    private static readonly ConcurrentDictionary<IntPtr, Action> Releases = new();

    /// <summary>A contiguous one-dimensional tensor over <paramref name="data"/>.</summary>
    /// <param name="data">Start of the memory; not in use by another live tensor of this class.</param>
    /// <param name="elementCount">Number of elements of <paramref name="type"/>.</param>
    /// <param name="type">Element type.</param>
    /// <param name="release">Called once, on any thread, when the storage is freed. Must not throw.</param>
    public static torch.Tensor Create(IntPtr data, long elementCount, torch.ScalarType type, Action release)
    {
        if (!Releases.TryAdd(data, release))
            throw new InvalidOperationException($"Memory at 0x{data:x} backs a tensor already.");
        var handle = LibTorchLibrary.Api.NewTensorFromMemory(
            data, (IntPtr)(delegate* unmanaged<IntPtr, void>)&Release, &elementCount, 1, (sbyte)type, (sbyte)type, (int)DeviceType.CPU, 0, 0);
        if (handle == IntPtr.Zero)
        {
            Releases.TryRemove(data, out _);
            torch.CheckForErrors();
            throw new InvalidOperationException($"libtorch made no tensor over {elementCount} elements of {type} at 0x{data:x}.");
        }

        return torch.Tensor.UnsafeCreateTensor(handle);
    }

    [UnmanagedCallersOnly]
    private static void Release(IntPtr data)
    {
        if (Releases.TryRemove(data, out var release))
            release();
    }
}
