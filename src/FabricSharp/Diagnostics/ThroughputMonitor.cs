using FabricSharp.Accelerators;
using static TorchSharp.torch;

namespace FabricSharp.Diagnostics;

/// <summary>
/// <see cref="Throughput"/> for a Fabric: knows the number of ranks and, for known NVIDIA GPUs, the peak, and logs to Fabric's loggers. Only rank 0
/// measures; on other ranks every member does nothing, so all can be called on any rank. Local.
/// </summary>
public sealed class ThroughputMonitor : Throughput
{
    private readonly Fabric _fabric;
    private long _step = -1;

    /// <summary>Begins with an empty window.</summary>
    /// <param name="fabric">Gives the ranks, the device and the loggers.</param>
    /// <param name="availableFlops">FLOPs per second of one device at best. <value>Default: by the GPU's name and <paramref name="dtype"/>; unknown on CPUs.</value></param>
    /// <param name="windowSize">The number of updates that rates are taken over, at least 2. <value>Default 100.</value></param>
    /// <param name="separator">Stands between <c>device</c> and the rate's name. <value>Default "/".</value></param>
    /// <param name="dtype">What the model computes in. <value>Default: TorchSharp's default type.</value></param>
    /// <param name="sparseFactor">What the peak is multiplied by for models that use structured sparsity. <value>Default 1.</value></param>
    public ThroughputMonitor(Fabric fabric, double? availableFlops = null, int windowSize = 100, string separator = "/", ScalarType? dtype = null, double sparseFactor = 1)
        : base(availableFlops ?? PeakOf(fabric ?? throw new ArgumentNullException(nameof(fabric)), dtype), fabric?.WorldSize ?? 1, windowSize, separator, sparseFactor)
    {
        _fabric = fabric!;
    }

    /// <inheritdoc/>
    public override void Update(TimeSpan time, long batches, long samples, long? lengths = null, double? flops = null)
    {
        if (_fabric.IsGlobalZero)
            base.Update(time, batches, samples, lengths, flops);
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> Compute() => _fabric.IsGlobalZero ? base.Compute() : new Dictionary<string, double>();

    /// <summary>Computes the metrics and logs them.</summary>
    /// <param name="step">The training step. <value>Default: one more than at the last call.</value></param>
    /// <returns>The metrics; empty on ranks other than 0.</returns>
    public IReadOnlyDictionary<string, double> ComputeAndLog(long? step = null)
    {
        _step = step ?? _step + 1;
        var metrics = Compute();
        if (metrics.Count > 0)
            _fabric.LogDict(metrics, _step);
        return metrics;
    }

    private static double? PeakOf(Fabric fabric, ScalarType? dtype)
    {
        if (fabric.Accelerator is not CudaAccelerator || !fabric.IsGlobalZero)
            return null;
        var type = dtype ?? get_default_dtype();
        var name = GpuName.Read("/proc/driver/nvidia/gpus");
        var peak = name is null ? null : PeakFlops.Find(name, type, backends.cuda.matmul.allow_tf32);
        if (peak is null)
            Console.Error.WriteLine($"FabricSharp: the peak FLOPs of {name ?? "this GPU"} in {type} are not known, so there is no `device/mfu`. Give ThroughputMonitor(availableFlops: …).");
        return peak;
    }
}
