using FabricSharp.Accelerators;
using FabricSharp.Configuration;
using FabricSharp.Precision;
using TorchSharp;
using static FabricSharp.Tests.Configuration.RecordedVariables;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Precision;

public class PrecisionNameTests
{
    [Theory]
    [InlineData("32-true", typeof(FullPrecision), "32-true")]
    [InlineData("32", typeof(FullPrecision), "32-true")]
    [InlineData("64-true", typeof(DoublePrecision), "64-true")]
    [InlineData("64", typeof(DoublePrecision), "64-true")]
    [InlineData("16-true", typeof(HalfPrecision), "16-true")]
    [InlineData("bf16-true", typeof(HalfPrecision), "bf16-true")]
    [InlineData("BF16-True", typeof(HalfPrecision), "bf16-true")]
    [InlineData("16-mixed", typeof(MixedPrecision), "16-mixed")]
    [InlineData("bf16-mixed", typeof(MixedPrecision), "bf16-mixed")]
    public void Resolve_Name_GivesThePluginWithoutAWarning(string text, Type type, string name)
    {
        var (plugin, warnings) = Resolve(text, DeviceType.CUDA);
        Assert.IsType(type, plugin);
        Assert.Equal(name, plugin.Name);
        Assert.Empty(warnings);
    }

    [Theory]
    [InlineData("16", "16-mixed")]
    [InlineData("bf16", "bf16-mixed")]
    public void Resolve_DeprecatedShortForm_WarnsWithTheFullName(string text, string name)
    {
        var (plugin, warnings) = Resolve(text, DeviceType.CUDA);
        Assert.Equal(name, plugin.Name);
        Assert.Equal([$"`precision={text}` is supported for historical reasons but its usage is discouraged. Please set your precision to {name} instead!"], warnings);
    }

    [Theory]
    [InlineData("16-mixed", 1)]
    [InlineData("16", 2)]
    public void Resolve_MixedFloat16OnTheCpu_WarnsAndBecomesBFloat16(string text, int warningCount)
    {
        var (plugin, warnings) = Resolve(text, DeviceType.CPU);
        Assert.Equal("bf16-mixed", plugin.Name);
        Assert.Null(plugin.Scaler);
        Assert.Equal(warningCount, warnings.Count);
        Assert.Contains("AMP with fp16 is not supported on CPU. Using `precision='bf16-mixed'` instead.", warnings[^1]);
    }

    [Fact]
    public void Resolve_UnknownName_ListsTheAllowed()
    {
        var e = Assert.Throws<ArgumentException>(() => Resolve("bf16-mixd", DeviceType.CPU));
        Assert.Equal("precision", e.ParamName);
        Assert.StartsWith("Precision 'bf16-mixd' is invalid. Allowed precision values: 16-true, 16-mixed, bf16-true, bf16-mixed, 32-true, 64-true", e.Message);
        Assert.Contains("Did you mean 'bf16-mixed'?", e.Message);
    }

    [Theory]
    [InlineData(64, "64-true")]
    [InlineData(32, "32-true")]
    [InlineData(16, "bf16-mixed")]
    public void Make_Number_IsTheShortForm(int bits, string name) => Assert.Equal(name, Plan(bits).Precision.Name);

    [Fact]
    public void Make_NoPrecision_Is32True() => Assert.IsType<FullPrecision>(Plan(null).Precision);

    [Fact]
    public void Make_Variable_ReplacesTheDefaultOnly()
    {
        Assert.Equal("bf16-true", Plan(null, ("LT_PRECISION", "bf16-true")).Precision.Name);
        Assert.Equal("64-true", Plan("64", ("LT_PRECISION", "bf16-true")).Precision.Name);
    }

    [Fact]
    public void Make_ArgumentAgainstTheCommandLine_IsRefusedUnlessBothMeanTheSame()
    {
        var e = Assert.Throws<ArgumentException>(() => Plan("64-true", ("LT_PRECISION", "bf16-true"), ("LT_CLI_USED", "1")));
        Assert.Contains("Fabric(precision=64-true, ...)", e.Message);
        Assert.Equal("64-true", Plan("64", ("LT_PRECISION", "64-true"), ("LT_CLI_USED", "1")).Precision.Name);
    }

    [Fact]
    public void Make_PluginForAnotherDevice_IsRefused()
    {
        var e = Assert.Throws<ArgumentException>(() => Plan(new MixedPrecision("16-mixed", DeviceType.CUDA)));
        Assert.Equal("precision", e.ParamName);
        Assert.Contains("Use DeviceType.CPU", e.Message);
    }

    [Fact]
    public void MixedPrecision_Scaler_IsMadeForFloat16AndRefusedForBFloat16()
    {
        var scaler = new GradScaler();
        Assert.Equal(65536, new MixedPrecision("16-mixed", DeviceType.CPU).Scaler!.CurrentScale);
        Assert.Same(scaler, new MixedPrecision("16-mixed", DeviceType.CPU, scaler).Scaler);
        Assert.Null(new MixedPrecision("bf16-mixed", DeviceType.CPU).Scaler);
        Assert.Contains("`precision='bf16-mixed'` does not use a scaler", Assert.Throws<ArgumentException>(() => new MixedPrecision("bf16-mixed", DeviceType.CPU, scaler)).Message);
    }

    [Fact]
    public void Constructors_OtherNames_AreRefused()
    {
        Assert.Contains("must be '16-mixed' or 'bf16-mixed'", Assert.Throws<ArgumentException>(() => new MixedPrecision("16-true", DeviceType.CPU)).Message);
        Assert.Contains("must be '16-true' or 'bf16-true'", Assert.Throws<ArgumentException>(() => new HalfPrecision("16-mixed")).Message);
    }

    [Fact]
    public void Fabric_Precision_IsThePlugin()
    {
        using var fabric = new Fabric("cpu", "auto", 1, 1, "bf16-true");
        Assert.Equal(("bf16-true", ScalarType.BFloat16), (fabric.Precision.Name, fabric.Precision.ParameterType));
    }

    [Fact]
    public void Fabric_PrecisionAsPlugin_IsTheFabricsUnlessOneWasNamed()
    {
        var plugin = new HalfPrecision("bf16-true");
        using (var fabric = new Fabric("cpu", plugins: [plugin]))
            Assert.Same(plugin, fabric.Precision);
        var e = Assert.Throws<ArgumentException>(() => new Fabric("cpu", precision: "32-true", plugins: [plugin]));
        Assert.Contains("Received both `precision=32-true` and `plugins=HalfPrecision`", e.Message, StringComparison.Ordinal);
    }

    private static (PrecisionPlugin Plugin, List<string> Warnings) Resolve(string text, DeviceType device)
    {
        var warnings = new List<string>();
        return (PrecisionNames.Resolve(text, device, warnings.Add), warnings);
    }

    private static FabricPlan Plan(PrecisionChoice? precision, params (string, string)[] variables) =>
        FabricPlanner.Make(new CpuAccelerator(), "auto", 1, 1, Of(variables), precision);
}
