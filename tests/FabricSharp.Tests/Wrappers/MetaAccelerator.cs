using FabricSharp.Accelerators;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Wrappers;

/// <summary>The meta device stands in for a GPU: it is another device that every machine has.</summary>
internal sealed class MetaAccelerator : Accelerator
{
    public override string Name => "meta";

    public override bool IsAvailable => true;

    public override int AutoDeviceCount => 1;

    internal override DeviceType DeviceType => DeviceType.META;

    internal override IReadOnlyList<int> Resolve(DeviceSelection devices) => [0];

    internal override Device DeviceAt(int index) => META;
}
