using FabricSharp.Accelerators;
using FabricSharp.Configuration;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Configuration;

public class AcceleratorNameTests
{
    [Theory]
    [InlineData("cpu")]
    [InlineData("CPU")]
    [InlineData("Cpu")]
    public void Make_Cpu_IsTheProcessor(string name) => Assert.IsType<CpuAccelerator>(Plan(name).Accelerator);

    [Fact]
    public void Make_Auto_IsTheBestThatIsThere()
    {
        var expected = mps_is_available() ? "mps" : cuda.is_available() ? "cuda" : "cpu";
        Assert.Equal(expected, Plan("auto").Accelerator.Name);
        Assert.Equal(expected, Plan(default).Accelerator.Name);
    }

    [Fact]
    public void Make_Object_IsTakenAsItIs()
    {
        var accelerator = new CpuAccelerator();
        Assert.Same(accelerator, Plan(accelerator).Accelerator);
    }

    [Fact]
    public void Make_UnknownName_ListsAllAndGuesses()
    {
        var e = Assert.Throws<ArgumentException>(() => Plan("cudda"));
        Assert.Equal("accelerator", e.ParamName);
        Assert.Contains("`accelerator='cudda'`", e.Message);
        Assert.Contains("Did you mean 'cuda'?", e.Message);
        Assert.All(AcceleratorRegistry.Available, name => Assert.Contains(name, e.Message));
    }

    [Fact]
    public void Make_MissingHardware_SaysWhatIsThere()
    {
        Assert.SkipWhen(cuda.is_available() || mps_is_available(), "This machine has a GPU.");
        foreach (var name in new[] { "cuda", "mps" })
        {
            var e = Assert.Throws<ArgumentException>(() => Plan(name));
            Assert.Equal("accelerator", e.ParamName);
            Assert.Contains("not available", e.Message);
            Assert.Contains("is available: cpu", e.Message);
        }

        var gpu = Assert.Throws<ArgumentException>(() => Plan("gpu"));
        Assert.Equal("accelerator", gpu.ParamName);
        Assert.Contains("No supported gpu backend found!", gpu.Message);
    }

    [Fact]
    public void Make_ObjectOfMissingHardware_IsRefused()
    {
        Assert.SkipWhen(cuda.is_available(), "This machine has a GPU.");
        foreach (var devices in new DeviceSelection[] { DeviceSelection.Auto, -1 })
        {
            var e = Assert.Throws<ArgumentException>(() => FabricPlanner.Make(new CudaAccelerator(), "auto", devices, 1, RecordedVariables.None));
            Assert.Contains("cuda", e.Message);
        }
    }

    private static FabricPlan Plan(AcceleratorChoice accelerator) => FabricPlanner.Make(accelerator, "auto", DeviceSelection.Auto, 1, RecordedVariables.None);
}
