using FabricSharp.Configuration;

namespace FabricSharp.Accelerators;

/// <summary>The accelerators by name.</summary>
internal static class AcceleratorRegistry
{
    private static readonly Accelerator Cpu = new CpuAccelerator(), Cuda = new CudaAccelerator(), Mps = new MpsAccelerator();

    /// <summary>Every accepted name.</summary>
    public static IReadOnlyList<string> Available { get; } = ["auto", "cpu", "cuda", "gpu", "mps"];

    /// <exception cref="ArgumentException">The name is unknown, or the hardware is not there.</exception>
    public static Accelerator Resolve(string name)
    {
        var accelerator = name.ToLowerInvariant() switch
        {
            "auto" => Mps.IsAvailable ? Mps : Cuda.IsAvailable ? Cuda : Cpu,
            "cpu" => Cpu,
            "cuda" => Cuda,
            "mps" => Mps,
            "gpu" => Mps.IsAvailable ? Mps : Cuda.IsAvailable ? Cuda : throw new ArgumentException("No supported gpu backend found! Use accelerator: \"cpu\", or bring a CUDA package of TorchSharp.", "accelerator"),
            _ => throw UnknownName.For("accelerator", name, Available),
        };
        if (accelerator.IsAvailable)
            return accelerator;
        var available = new[] { Cpu, Cuda, Mps }.Where(a => a.IsAvailable);
        throw new ArgumentException(
            $"`{accelerator.GetType().Name}` can not run on your system since the accelerator is not available. The following accelerator(s) is available: {string.Join(", ", available)}.", "accelerator");
    }
}
