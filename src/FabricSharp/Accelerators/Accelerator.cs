using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Accelerators;

/// <summary>A kind of hardware that ranks compute on.</summary>
public abstract class Accelerator
{
    /// <summary>The name by which it is chosen, for example <c>cpu</c>.</summary>
    public abstract string Name { get; }

    /// <summary>Whether this machine has it and TorchSharp can use it.</summary>
    public abstract bool IsAvailable { get; }

    /// <summary>TorchSharp's name for it.</summary>
    internal abstract DeviceType DeviceType { get; }

    /// <summary>How many devices <c>devices: "auto"</c> means.</summary>
    public abstract int AutoDeviceCount { get; }

    /// <summary>The device numbers that <paramref name="devices"/> selects, one per rank of a machine.</summary>
    /// <exception cref="ArgumentException">The selection is impossible here.</exception>
    internal abstract IReadOnlyList<int> Resolve(DeviceSelection devices);

    /// <summary>The device with a number that <see cref="Resolve"/> gave.</summary>
    internal abstract Device DeviceAt(int index);

    /// <inheritdoc/>
    public override string ToString() => Name;
}
