using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Wrappers;

public sealed class ToDeviceTests : IDisposable
{
    private readonly Fabric _fabric = new("cpu", devices: 1);

    public void Dispose() => _fabric.Dispose();

    [Fact]
    public void ToDevice_OnItAlready_IsTheSame()
    {
        using var here = ones(2);
        var list = new List<Tensor> { here };
        Assert.Same(here, _fabric.ToDevice(here));
        Assert.Same(list, _fabric.ToDevice(list));
        Assert.Equal(3, _fabric.ToDevice(3));
        Assert.Equal("x", _fabric.ToDevice("x"));
    }

    [Fact]
    public void ToDevice_Module_IsTheModule()
    {
        using var module = nn.Linear(2, 2);
        var weight = module.weight;
        Assert.Same(module, _fabric.ToDevice(module));
        Assert.Same(weight, module.weight);
        var wrapped = _fabric.Setup(module);
        Assert.Same(wrapped, _fabric.ToDevice(wrapped));
    }

    [Fact]
    public void ToDevice_Elsewhere_CopiesTensors()
    {
        using var fabric = new Fabric(new MetaAccelerator(), devices: 1);
        using var here = ones(2);
        var (tensor, list, name) = fabric.ToDevice((here, new[] { here }, "x"));
        Assert.Equal([DeviceType.META, DeviceType.META], new[] { tensor.device_type, list[0].device_type });
        Assert.Equal("x", name);
        Assert.Equal(DeviceType.CPU, here.device_type);
    }
}
