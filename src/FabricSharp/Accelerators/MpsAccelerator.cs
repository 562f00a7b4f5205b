using static TorchSharp.torch;

namespace FabricSharp.Accelerators;

/// <summary>The GPU of Apple silicon: one device, one process.</summary>
public sealed class MpsAccelerator : Accelerator
{
    /// <inheritdoc/>
    public override string Name => "mps";

    /// <inheritdoc/>
    public override bool IsAvailable => mps_is_available();

    /// <summary>1.</summary>
    public override int AutoDeviceCount => 1;

    internal override TorchSharp.DeviceType DeviceType => TorchSharp.DeviceType.MPS;

    internal override IReadOnlyList<int> Resolve(DeviceSelection devices)
    {
        if (devices.IsAuto || devices.Count is 1 or -1 || devices.Indices is [0])
            return [0];
        throw new ArgumentException($"`Fabric(devices={devices})`: there is one mps device. Use devices: 1.", nameof(devices));
    }

    internal override Device DeviceAt(int index) => MPS;
}
