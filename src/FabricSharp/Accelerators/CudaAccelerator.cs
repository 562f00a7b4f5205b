using static TorchSharp.torch;

namespace FabricSharp.Accelerators;

/// <summary>NVIDIA GPUs through TorchSharp's CUDA packages; one rank per GPU.</summary>
public sealed class CudaAccelerator : Accelerator
{
    /// <inheritdoc/>
    public override string Name => "cuda";

    /// <inheritdoc/>
    public override bool IsAvailable => cuda.is_available() && cuda.device_count() > 0;

    /// <summary>All that are visible.</summary>
    public override int AutoDeviceCount => IsAvailable ? cuda.device_count() : 0;

    internal override TorchSharp.DeviceType DeviceType => TorchSharp.DeviceType.CUDA;

    internal override IReadOnlyList<int> Resolve(DeviceSelection devices)
    {
        var existing = Enumerable.Range(0, AutoDeviceCount).ToList();
        IReadOnlyList<int> wanted = devices switch
        {
            { IsAuto: true } or { Count: -1 } => existing,
            { Indices: { } indices } => indices,
            { Count: > 0 } => [.. Enumerable.Range(0, devices.Count.Value)],
            _ => throw new ArgumentException($"`Fabric(devices={devices})` value is not a valid input using cuda accelerator. Use a number of GPUs, -1 for all, or their indices: \"0,1\".", nameof(devices)),
        };
        if (existing.Count == 0 && wanted.Count == 0)
            throw new ArgumentException("There is no cuda device on this machine that TorchSharp can use. Use accelerator: \"cpu\", or bring a CUDA package of TorchSharp.", nameof(devices));
        if (wanted.Except(existing).Any())
            throw new ArgumentException($"You requested gpu: [{string.Join(", ", wanted)}]\n But your machine only has: [{string.Join(", ", existing)}]", nameof(devices));
        return wanted;
    }

    internal override Device DeviceAt(int index) => new($"cuda:{index}");
}
