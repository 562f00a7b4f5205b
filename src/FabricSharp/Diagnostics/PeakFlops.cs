using static TorchSharp.torch;

namespace FabricSharp.Diagnostics;

/// <summary>FLOPs per second that GPUs can do at best, without sparsity, by the makers' data sheets.</summary>
internal static class PeakFlops
{
    private static readonly Gpu[] Known =
    [
        new(["H200"], Half: 9.895e14, Brain: 9.895e14, Tf32: 4.945e14, Single: 6.7e13),
        new(["H100", "NVL"], Half: 8.355e14, Brain: 8.355e14),
        new(["H100", "PCIe"], Half: 7.56e14, Brain: 7.56e14),
        new(["H100"], Half: 9.895e14, Brain: 9.895e14, Tf32: 4.945e14, Single: 6.7e13),
        new(["A100"], Half: 3.12e14, Brain: 3.12e14, Tf32: 1.56e14, Single: 1.95e13),
        new(["L40"], Half: 1.81e14, Brain: 1.81e14),
        new(["A40"], Half: 1.497e14, Brain: 1.497e14),
        new(["A10G"], Half: 1.25e14, Brain: 1.25e14),
        new(["L4"], Half: 1.21e14, Brain: 1.21e14),
        new(["RTX", "4090"], Half: 8.26e13, Brain: 8.26e13),
        new(["T4"], Half: 6.5e13),
        new(["V100", "SXM2"], Half: 1.25e14),
    ];

    /// <param name="name">The device's name, such as <c>NVIDIA A100-SXM4-80GB</c>.</param>
    /// <param name="type">What is computed in.</param>
    /// <param name="tf32">Whether 32-bit products may be computed in TF32.</param>
    /// <returns>Null when it is not known.</returns>
    public static double? Find(string name, ScalarType type, bool tf32)
    {
        var words = name.Split(' ', '-').ToHashSet(StringComparer.OrdinalIgnoreCase);
        return Known.FirstOrDefault(gpu => gpu.Words.All(words.Contains)) is not { } found ? null : type switch
        {
            ScalarType.Float16 => found.Half,
            ScalarType.BFloat16 => found.Brain,
            ScalarType.Float32 => tf32 ? found.Tf32 ?? found.Single : found.Single,
            _ => null,
        };
    }

    /// <summary>A row: words that the device's name contains (the first row that fits counts), and its peak by type.</summary>
    private sealed record Gpu(string[] Words, double? Half = null, double? Brain = null, double? Tf32 = null, double? Single = null);
}
