using FabricSharp.Tests.Loggers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Wrappers;

/// <summary>Where parameters go when a module is set up.</summary>
public class SetupModuleTests
{
    [Fact]
    public void SetupModule_NotMoved_StaysWhereItIsAndTakesThePrecision()
    {
        using var fabric = new Fabric(new MetaAccelerator(), devices: 1, precision: "64-true");
        var net = nn.Linear(2, 2);
        fabric.SetupModule(net, moveToDevice: false);
        Assert.Equal(DeviceType.CPU, net.weight!.device_type);
        Assert.Equal(ScalarType.Float64, net.weight.dtype);
    }

    [Fact]
    public void SetupModule_ParametersOnSeveralDevices_WarnsWithTheirNames()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var warning = StandardError.Of(() => Assert.ThrowsAny<Exception>(() => fabric.Setup(new Split()))); // what lies on the meta device has no values to move
        Assert.Contains("2 parameters on different devices (for example 'here' on cpu and 'there' on meta", warning, StringComparison.Ordinal);
        Assert.Contains("moveToDevice: false", warning, StringComparison.Ordinal);
    }

    private sealed class Split : nn.Module<Tensor, Tensor>
    {
        public Parameter here = new(ones(1)), there = new(ones(1, device: META));

        public Split()
            : base(nameof(Split)) => RegisterComponents();

        public override Tensor forward(Tensor input) => input * here;
    }
}
