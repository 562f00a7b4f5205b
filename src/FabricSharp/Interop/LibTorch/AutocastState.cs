using System.Runtime.InteropServices;
using TorchSharp;

namespace FabricSharp.Interop.LibTorch;

/// <summary>
/// The autocast state of the calling thread, which libtorch keeps. C++ functions with plain arguments; whether they are there and do what
/// they should is found out at first use.
/// </summary>
internal static unsafe class AutocastState
{
    private static readonly Lazy<Entries> Loaded = new(Load);

    public static bool IsSupported => Loaded.Value.Reason is null;

    /// <summary>Why <see cref="IsSupported"/> is false; null when it is true.</summary>
    public static string? NotSupportedReason => Loaded.Value.Reason;

    public static bool IsEnabled(DeviceType device) => Loaded.Value.GetEnabled((sbyte)device) != 0;

    public static torch.ScalarType ElementType(DeviceType device) => (torch.ScalarType)Loaded.Value.GetElementType((sbyte)device);

    public static bool IsCacheEnabled => Loaded.Value.GetCacheEnabled() != 0;

    public static void Set(DeviceType device, bool enabled, torch.ScalarType type, bool cacheEnabled) =>
        Loaded.Value.Set(device, enabled, type, cacheEnabled);

    public static void Enter() => Loaded.Value.IncrementNesting();

    /// <summary>Leaves a level; the cache of converted weights ends with the outermost.</summary>
    public static void Leave()
    {
        if (Loaded.Value.DecrementNesting() == 0)
            Loaded.Value.ClearCache();
    }

    private static Entries Load()
    {
        var entries = new Entries();
        try
        {
            _ = torch.__version__; // loads libtorch
            entries.Resolve();
            entries.Reason = SelfTest(entries);
        }
        catch (Exception e) when (e is EntryPointNotFoundException or DllNotFoundException or BadImageFormatException or ExternalException)
        {
            entries.Reason = $"libtorch lacks an entry point of autocast: {e.Message}";
        }

        return entries;
    }

    private static string? SelfTest(Entries entries)
    {
        var (enabled, type, cache) = (entries.GetEnabled(0) != 0, (torch.ScalarType)entries.GetElementType(0), entries.GetCacheEnabled() != 0);
        using var scope = torch.NewDisposeScope();
        using var gradientsOff = torch.no_grad();
        using var left = torch.ones(2, 2, torch.ScalarType.Float32, torch.CPU);
        torch.ScalarType Product() => torch.mm(left, left).dtype;
        entries.Set(DeviceType.CPU, true, torch.ScalarType.BFloat16, cache);
        var inside = Product();
        entries.Set(DeviceType.CPU, false, torch.ScalarType.BFloat16, cache);
        var outside = Product();
        entries.Set(DeviceType.CPU, enabled, type, cache);
        return (inside, outside) == (torch.ScalarType.BFloat16, torch.ScalarType.Float32) ? null : $"the self-test of autocast saw a product of {inside} inside and of {outside} outside, instead of BFloat16 and Float32";
    }

    private sealed class Entries
    {
        public string? Reason;
        public delegate* unmanaged<sbyte, byte> GetEnabled;
        public delegate* unmanaged<sbyte, sbyte> GetElementType;
        public delegate* unmanaged<byte> GetCacheEnabled;
        public delegate* unmanaged<void> IncrementNesting;
        public delegate* unmanaged<int> DecrementNesting;
        public delegate* unmanaged<void> ClearCache;
        private delegate* unmanaged<sbyte, byte, void> _setEnabled;
        private delegate* unmanaged<sbyte, sbyte, void> _setElementType;
        private delegate* unmanaged<byte, void> _setCacheEnabled;

        public void Set(DeviceType device, bool enabled, torch.ScalarType type, bool cacheEnabled)
        {
            _setEnabled((sbyte)device, Flag(enabled));
            _setElementType((sbyte)device, (sbyte)type);
            _setCacheEnabled(Flag(cacheEnabled));
        }

        public void Resolve()
        {
            var torchCpu = NativeLibrary.Load(LibTorchLibrary.PathOf("libtorch_cpu"));
            IntPtr Cpu(string name) => NativeLibrary.GetExport(torchCpu, name);

            GetEnabled = (delegate* unmanaged<sbyte, byte>)Cpu("_ZN2at8autocast19is_autocast_enabledEN3c1010DeviceTypeE");
            GetElementType = (delegate* unmanaged<sbyte, sbyte>)Cpu("_ZN2at8autocast18get_autocast_dtypeEN3c1010DeviceTypeE");
            GetCacheEnabled = (delegate* unmanaged<byte>)Cpu("_ZN2at8autocast25is_autocast_cache_enabledEv");
            IncrementNesting = (delegate* unmanaged<void>)Cpu("_ZN2at8autocast17increment_nestingEv");
            DecrementNesting = (delegate* unmanaged<int>)Cpu("_ZN2at8autocast17decrement_nestingEv");
            ClearCache = (delegate* unmanaged<void>)Cpu("_ZN2at8autocast11clear_cacheEv");
            _setEnabled = (delegate* unmanaged<sbyte, byte, void>)Cpu("_ZN2at8autocast20set_autocast_enabledEN3c1010DeviceTypeEb");
            _setElementType = (delegate* unmanaged<sbyte, sbyte, void>)Cpu("_ZN2at8autocast18set_autocast_dtypeEN3c1010DeviceTypeENS1_10ScalarTypeE");
            _setCacheEnabled = (delegate* unmanaged<byte, void>)Cpu("_ZN2at8autocast26set_autocast_cache_enabledEb");
        }

        private static byte Flag(bool value) => value ? (byte)1 : (byte)0;
    }
}
