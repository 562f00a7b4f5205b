using System.Diagnostics;
using System.Runtime.InteropServices;
using TorchSharp;

namespace FabricSharp.Interop.LibTorch;

/// <summary>
/// The shared libraries of libtorch that TorchSharp has loaded, and the entry points that we call in them. Resolved once;
/// what is missing makes <see cref="IsSupported"/> false with a reason, and nothing throws before it is used.
/// </summary>
internal static unsafe class LibTorchLibrary
{
    /// <summary>
    /// The only libtorch whose C++ layouts (vtable of a hook, std::function, position of the TensorImpl pointer) were verified.
    /// Another version gets the managed path.
    /// </summary>
    private const string VerifiedVersion = "2.10.";

    private static readonly Lazy<Entries> Loaded = new(Load);

    public static bool IsSupported => Loaded.Value.Reason is null;

    public static string? NotSupportedReason => Loaded.Value.Reason;

    /// <summary>The resolved entry points; only to be read when <see cref="IsSupported"/>.</summary>
    public static Entries Api => Loaded.Value;

    private static Entries Load()
    {
        var entries = new Entries();
        try
        {
            if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture is not (Architecture.X64 or Architecture.Arm64))
                entries.Reason = $"gradient hooks were verified on 64-bit Linux only, this is {RuntimeInformation.RuntimeIdentifier}";
            else if (!torch.__version__.StartsWith(VerifiedVersion, StringComparison.Ordinal))
                entries.Reason = $"gradient hooks were verified with libtorch {VerifiedVersion}x only, this is {torch.__version__}";
            else
                entries.Resolve();
        }
        catch (Exception e) when (e is EntryPointNotFoundException or DllNotFoundException or InvalidOperationException or BadImageFormatException)
        {
            entries.Reason = $"libtorch lacks an entry point: {e.Message}";
        }

        return entries;
    }

    /// <summary>The file of a native library that is loaded.</summary>
    /// <param name="prefix">Its name without version and extension.</param>
    /// <exception cref="DllNotFoundException">No library of that name is loaded.</exception>
    public static string PathOf(string prefix)
    {
        using var process = Process.GetCurrentProcess();
        foreach (ProcessModule module in process.Modules)
            if (module.ModuleName.StartsWith(prefix + ".", StringComparison.Ordinal))
                return module.FileName;
        throw new DllNotFoundException($"TorchSharp has not loaded {prefix}");
    }

    /// <summary>Addresses of native functions. C++ symbols carry their mangled names; the others are libtorch's stable C ABI.</summary>
    internal sealed class Entries
    {
        public string? Reason;

        // C++: torch::autograd
        public delegate* unmanaged<IntPtr, IntPtr*, void> SetPostAccumulateGradHooks;
        public delegate* unmanaged<IntPtr> GetDefaultEngine;
        public delegate* unmanaged<IntPtr, IntPtr, void> QueueCallback;

        // C++: c10::TensorImpl. They read one field; no garbage collection can be needed while they run.
        public delegate* unmanaged[SuppressGCTransition]<IntPtr, IntPtr> TensorImplGrad;
        public delegate* unmanaged<IntPtr, IntPtr> TensorImplMutableGrad;
        public IntPtr UndefinedTensorImpl;

        // C++: c10::Allocator
        public delegate* unmanaged<IntPtr> GetCpuAllocator;
        public delegate* unmanaged<IntPtr, byte, void> SetCpuAllocator;

        // Stable C ABI
        public delegate* unmanaged[SuppressGCTransition]<IntPtr, IntPtr*, int> GetDataPointer;
        public delegate* unmanaged[SuppressGCTransition]<IntPtr, long*, int> GetElementCount;
        public delegate* unmanaged[SuppressGCTransition]<IntPtr, int*, int> GetScalarType;
        public delegate* unmanaged[SuppressGCTransition]<IntPtr, int*, int> GetLayout;
        public delegate* unmanaged[SuppressGCTransition]<IntPtr, long*, int> GetDimension;
        public delegate* unmanaged[SuppressGCTransition]<IntPtr, long**, int> GetStrides;
        public delegate* unmanaged<IntPtr, IntPtr, int> AssignTensors;
        public delegate* unmanaged<IntPtr, IntPtr, int, int> Copy;
        public delegate* unmanaged<IntPtr, IntPtr*, int> NewTensorHandle;
        public delegate* unmanaged<byte*, byte*, ulong*, int> CallDispatcher;

        // LibTorchSharp
        public delegate* unmanaged<IntPtr, IntPtr, long*, int, sbyte, sbyte, int, int, byte, IntPtr> NewTensorFromMemory;

        public void Resolve()
        {
            var torchCpu = NativeLibrary.Load(PathOf("libtorch_cpu"));
            var c10 = NativeLibrary.Load(PathOf("libc10"));
            var torchSharp = NativeLibrary.Load(PathOf("libLibTorchSharp"));
            IntPtr Cpu(string name) => NativeLibrary.GetExport(torchCpu, name);

            SetPostAccumulateGradHooks = (delegate* unmanaged<IntPtr, IntPtr*, void>)Cpu("_ZN5torch8autograd4impl23set_post_acc_grad_hooksERKN2at10TensorBaseESt10unique_ptrINS0_22PostAccumulateGradHookESt14default_deleteIS7_EE");
            GetDefaultEngine = (delegate* unmanaged<IntPtr>)Cpu("_ZN5torch8autograd6Engine18get_default_engineEv");
            QueueCallback = (delegate* unmanaged<IntPtr, IntPtr, void>)Cpu("_ZN5torch8autograd6Engine14queue_callbackESt8functionIFvvEE");

            TensorImplGrad = (delegate* unmanaged[SuppressGCTransition]<IntPtr, IntPtr>)NativeLibrary.GetExport(c10, "_ZNK3c1010TensorImpl4gradEv");
            TensorImplMutableGrad = (delegate* unmanaged<IntPtr, IntPtr>)NativeLibrary.GetExport(c10, "_ZN3c1010TensorImpl12mutable_gradEv");
            UndefinedTensorImpl = NativeLibrary.GetExport(c10, "_ZN3c1019UndefinedTensorImpl10_singletonE");

            GetCpuAllocator = (delegate* unmanaged<IntPtr>)NativeLibrary.GetExport(c10, "_ZN3c1015GetCPUAllocatorEv");
            SetCpuAllocator = (delegate* unmanaged<IntPtr, byte, void>)NativeLibrary.GetExport(c10, "_ZN3c1015SetCPUAllocatorEPNS_9AllocatorEh");

            GetDataPointer = (delegate* unmanaged[SuppressGCTransition]<IntPtr, IntPtr*, int>)Cpu("aoti_torch_get_data_ptr");
            GetElementCount = (delegate* unmanaged[SuppressGCTransition]<IntPtr, long*, int>)Cpu("aoti_torch_get_numel");
            GetScalarType = (delegate* unmanaged[SuppressGCTransition]<IntPtr, int*, int>)Cpu("aoti_torch_get_dtype");
            GetLayout = (delegate* unmanaged[SuppressGCTransition]<IntPtr, int*, int>)Cpu("aoti_torch_get_layout");
            GetDimension = (delegate* unmanaged[SuppressGCTransition]<IntPtr, long*, int>)Cpu("aoti_torch_get_dim");
            GetStrides = (delegate* unmanaged[SuppressGCTransition]<IntPtr, long**, int>)Cpu("aoti_torch_get_strides");
            AssignTensors = (delegate* unmanaged<IntPtr, IntPtr, int>)Cpu("aoti_torch_assign_tensors");
            Copy = (delegate* unmanaged<IntPtr, IntPtr, int, int>)Cpu("aoti_torch_copy_");
            NewTensorHandle = (delegate* unmanaged<IntPtr, IntPtr*, int>)Cpu("aoti_torch_new_tensor_handle");
            CallDispatcher = (delegate* unmanaged<byte*, byte*, ulong*, int>)Cpu("aoti_torch_call_dispatcher");

            NewTensorFromMemory = (delegate* unmanaged<IntPtr, IntPtr, long*, int, sbyte, sbyte, int, int, byte, IntPtr>)NativeLibrary.GetExport(torchSharp, "THSTensor_new");
        }
    }
}
