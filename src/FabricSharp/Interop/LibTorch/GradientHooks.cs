using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using TorchSharp;
using TorchSharp.Modules;

namespace FabricSharp.Interop.LibTorch;

/// <summary>
/// What a hooked parameter reports to. Both methods are called inside libtorch's backward pass, on the thread that runs it
/// (for CPU gradients the thread that called <c>backward</c>), and must not throw.
/// </summary>
internal interface IGradientHookTarget
{
    /// <summary><c>parameter.grad</c> is complete for this backward pass.</summary>
    /// <param name="index">The number given at registration.</param>
    void OnGradientReady(int index);

    /// <summary>The backward pass in which <see cref="GradientHooks.QueueBackwardEnd"/> was called is over.</summary>
    void OnBackwardEnd();

    /// <summary>The hook is gone: taken away, replaced by another target's, or its parameter is no more. On any thread.</summary>
    /// <param name="index">The number given at registration.</param>
    void OnHookRemoved(int index)
    {
    }
}

/// <summary>
/// Post-accumulate-grad hooks and end-of-backward callbacks of libtorch's autograd engine, from C# alone: the C++ objects that the
/// engine expects are laid out by hand. A self-test at first use proves that they work with the libtorch that is loaded.
/// See docs/design/gradient-hooks.md.
/// </summary>
internal static unsafe class GradientHooks
{
    /// <summary>Set to <c>off</c> (or 0, false) to do without hooks, as on a platform where they are missing.</summary>
    public const string SwitchVariable = "FABRIC_GRADIENT_HOOKS";

    private static readonly Lazy<string?> Probe = new(RunProbe);

    public static bool IsSupported => Probe.Value is null;

    /// <summary>Why <see cref="IsSupported"/> is false; null when it is true.</summary>
    public static string? NotSupportedReason => Probe.Value;

    /// <summary>Makes <paramref name="target"/> hear of each gradient of <paramref name="parameter"/>. Replaces an earlier hook.</summary>
    public static void Register(torch.Tensor parameter, IGradientHookTarget target, int index)
    {
        var hook = (NativeHook*)NativeMemory.AllocZeroed((nuint)sizeof(NativeHook)); // libtorch owns it from here; DeletingDestructor frees it
        hook->VirtualTable = Tables.Hook;
        hook->Target = GCHandle.ToIntPtr(GCHandle.Alloc(target));
        hook->Index = index;
        var uniquePointer = (IntPtr)hook;
        LibTorchLibrary.Api.SetPostAccumulateGradHooks(parameter.Handle, &uniquePointer);
        GC.KeepAlive(parameter);
    }

    /// <summary>Takes the hook of <paramref name="parameter"/> away.</summary>
    public static void Clear(torch.Tensor parameter)
    {
        var uniquePointer = IntPtr.Zero;
        LibTorchLibrary.Api.SetPostAccumulateGradHooks(parameter.Handle, &uniquePointer);
        GC.KeepAlive(parameter);
    }

    /// <summary>Has <see cref="IGradientHookTarget.OnBackwardEnd"/> called when the running backward pass ends. Only from inside a hook.</summary>
    public static void QueueBackwardEnd(IGradientHookTarget target)
    {
        // libstdc++'s std::function<void()>: two words of storage (we use the first), manager, invoker.
        var callback = new StdFunction
        {
            Target = GCHandle.ToIntPtr(GCHandle.Alloc(target)),
            Manager = (IntPtr)(delegate* unmanaged<StdFunction*, StdFunction*, int, byte>)&ManageCallback,
            Invoker = (IntPtr)(delegate* unmanaged<StdFunction*, void>)&InvokeCallback,
        };
        LibTorchLibrary.Api.QueueCallback(LibTorchLibrary.Api.GetDefaultEngine(), (IntPtr)(&callback));

        // Passed by value in C++: a caller destroys what the callee did not move out (a moved-from function has no manager).
        if (callback.Manager != IntPtr.Zero)
            GCHandle.FromIntPtr(callback.Target).Free();
    }

    private static string? RunProbe()
    {
        var wanted = Environment.GetEnvironmentVariable(SwitchVariable);
        if (wanted is not null && (wanted.Equals("off", StringComparison.OrdinalIgnoreCase) || wanted is "0" || wanted.Equals("false", StringComparison.OrdinalIgnoreCase)))
            return $"switched off by {SwitchVariable}={wanted}";
        if (!LibTorchLibrary.IsSupported)
            return LibTorchLibrary.NotSupportedReason;
        return SelfTest.Run();
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct NativeHook
    {
        public IntPtr VirtualTable;
        public IntPtr Target;
        public long Index;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct StdFunction
    {
        public IntPtr Target;
        public IntPtr Unused;
        public IntPtr Manager;
        public IntPtr Invoker;
    }

    private static class Tables
    {
        /// <summary>
        /// Itanium C++ vtable of torch::autograd::PostAccumulateGradHook: offset to top, type info, complete destructor, deleting
        /// destructor, operator()(const Tensor&amp;), compiled_args, apply_with_saved (the last two serve compiled autograd only).
        /// </summary>
        public static readonly IntPtr Hook = MakeHookTable();

        private static IntPtr MakeHookTable()
        {
            var table = (IntPtr*)RuntimeHelpers.AllocateTypeAssociatedMemory(typeof(GradientHooks), 8 * IntPtr.Size);
            table[2] = (IntPtr)(delegate* unmanaged<NativeHook*, void>)&CompleteDestructor;
            table[3] = (IntPtr)(delegate* unmanaged<NativeHook*, void>)&DeletingDestructor;
            table[4] = (IntPtr)(delegate* unmanaged<NativeHook*, IntPtr, void>)&InvokeHook;
            table[5] = table[4];
            table[6] = table[4];
            return (IntPtr)(table + 2);
        }
    }

    [UnmanagedCallersOnly]
    private static void CompleteDestructor(NativeHook* hook)
    {
    }

    [UnmanagedCallersOnly]
    private static void DeletingDestructor(NativeHook* hook)
    {
        var target = GCHandle.FromIntPtr(hook->Target);
        ((IGradientHookTarget)target.Target!).OnHookRemoved((int)hook->Index);
        target.Free();
        NativeMemory.Free(hook);
    }

    [UnmanagedCallersOnly]
    private static void InvokeHook(NativeHook* hook, IntPtr tensor) =>
        ((IGradientHookTarget)GCHandle.FromIntPtr(hook->Target).Target!).OnGradientReady((int)hook->Index);

    /// <summary>std::function's manager. Operations: 0 type info, 1 pointer to the functor, 2 clone, 3 destroy.</summary>
    [UnmanagedCallersOnly]
    private static byte ManageCallback(StdFunction* destination, StdFunction* source, int operation)
    {
        const int Clone = 2, Destroy = 3;
        if (operation == Clone)
            destination->Target = GCHandle.ToIntPtr(GCHandle.Alloc(GCHandle.FromIntPtr(source->Target).Target));
        else if (operation == Destroy)
            GCHandle.FromIntPtr(destination->Target).Free();
        return 0;
    }

    [UnmanagedCallersOnly]
    private static void InvokeCallback(StdFunction* callback) =>
        ((IGradientHookTarget)GCHandle.FromIntPtr(callback->Target).Target!).OnBackwardEnd();

    private sealed class SelfTest : IGradientHookTarget
    {
        private readonly List<string> _events = [];

        public static string? Run()
        {
            var test = new SelfTest();
            using var scope = torch.NewDisposeScope();
            using var gradientsOn = torch.enable_grad();
            using var parameter = new Parameter(torch.ones(3), requires_grad: true);
            Register(parameter, test, 7);
            using (var loss = parameter.sum())
                loss.backward();
            Clear(parameter);
            using (var loss = parameter.sum())
                loss.backward();
            var seen = string.Join(", ", test._events);
            return seen == "ready 7, end" ? null : $"the self-test of gradient hooks saw [{seen}] instead of [ready 7, end]";
        }

        public void OnGradientReady(int index)
        {
            _events.Add($"ready {index}");
            QueueBackwardEnd(this);
        }

        public void OnBackwardEnd() => _events.Add("end");
    }
}
