using System.Runtime.InteropServices;

namespace FabricSharp.Interop.LibTorch;

/// <summary>
/// float16 to float32 and back with the processor's instructions, which .NET does not offer: the conversions of FBGEMM, which libtorch contains on
/// x64. Rounds to nearest even.
/// </summary>
internal static unsafe class HalfConversion
{
    private const string WidenSymbol = "_ZN6fbgemm19Float16ToFloat_simdEPKtPfm", NarrowSymbol = "_ZN6fbgemm19FloatToFloat16_simdEPKfPtmb";

    private static readonly Lazy<(IntPtr Widen, IntPtr Narrow)> Entries = new(Load);

    public static bool IsSupported => Entries.Value.Widen != IntPtr.Zero;

    /// <summary>At most some thousand elements, for no garbage collection can run meanwhile.</summary>
    public static void Widen(ushort* from, float* to, int count) =>
        ((delegate* unmanaged[SuppressGCTransition]<ushort*, float*, nuint, void>)Entries.Value.Widen)(from, to, (nuint)count);

    /// <inheritdoc cref="Widen"/>
    public static void Narrow(float* from, ushort* to, int count) =>
        ((delegate* unmanaged[SuppressGCTransition]<float*, ushort*, nuint, byte, void>)Entries.Value.Narrow)(from, to, (nuint)count, 0); // 0: what is too large becomes infinity

    private static (IntPtr Widen, IntPtr Narrow) Load()
    {
        if (!LibTorchLibrary.IsSupported)
            return default;
        var library = NativeLibrary.Load(LibTorchLibrary.PathOf("libtorch_cpu"));
        if (!NativeLibrary.TryGetExport(library, WidenSymbol, out var widen) || !NativeLibrary.TryGetExport(library, NarrowSymbol, out var narrow))
            return default;
        return SelfTest(widen, narrow) ? (widen, narrow) : default;
    }

    /// <summary>Every float16 there and back, and one rounding of each kind.</summary>
    private static bool SelfTest(IntPtr widen, IntPtr narrow)
    {
        const int Count = 1 << 16;
        var (halves, floats, back) = (new ushort[Count + 4], new float[Count + 4], new ushort[Count + 4]);
        for (var i = 0; i < Count; i++)
            halves[i] = (ushort)i;
        fixed (ushort* from = halves, to = back)
        fixed (float* wide = floats)
        {
            ((delegate* unmanaged<ushort*, float*, nuint, void>)widen)(from, wide, Count);
            for (var i = 0; i < Count; i++)
                if (!wide[i].Equals((float)BitConverter.UInt16BitsToHalf((ushort)i)))
                    return false;
            (wide[Count], wide[Count + 1], wide[Count + 2], wide[Count + 3]) = (1 + 0.5f / 1024, 1 + 1.5f / 1024, 65520, 1e-8f);
            ((delegate* unmanaged<float*, ushort*, nuint, byte, void>)narrow)(wide, to, Count + 4, 0);
        }

        for (var i = 0; i < Count; i++)
            if (back[i] != i && !Half.IsNaN(BitConverter.UInt16BitsToHalf((ushort)i)))
                return false;
        return back.AsSpan(Count).SequenceEqual((ReadOnlySpan<ushort>)[0x3c00, 0x3c02, 0x7c00, 0]);
    }
}
