using static TorchSharp.torch;

namespace FabricSharp.Accelerators;

/// <summary>The processor. Every rank uses the same device; <c>devices: n</c> means n processes.</summary>
public sealed class CpuAccelerator : Accelerator
{
    /// <inheritdoc/>
    public override string Name => "cpu";

    /// <inheritdoc/>
    public override bool IsAvailable => true;

    /// <summary>1: a single process.</summary>
    public override int AutoDeviceCount => 1;

    internal override TorchSharp.DeviceType DeviceType => TorchSharp.DeviceType.CPU;

    internal override IReadOnlyList<int> Resolve(DeviceSelection devices)
    {
        var count = devices.IsAuto ? AutoDeviceCount : devices.Count;
        if (count is null or < 1)
            throw new ArgumentException($"`devices` selected with `CpuAccelerator` should be an int > 0: got `devices={devices}`. It is the number of processes, for example devices: 2.", nameof(devices));
        return [.. Enumerable.Range(0, count.Value)];
    }

    internal override Device DeviceAt(int index) => CPU;
}
