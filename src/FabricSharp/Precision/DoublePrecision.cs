using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>
/// <c>64-true</c>: parameters, buffers and floating-point inputs in float64; outputs come back in the default element type. The default
/// element type is float64 inside forward passes (unless ranks are threads: it belongs to the whole process).
/// </summary>
public sealed class DoublePrecision : PrecisionPlugin
{
    /// <inheritdoc/>
    public override string Name => "64-true";

    /// <summary>Float64.</summary>
    public override ScalarType? ParameterType => ScalarType.Float64;

    /// <summary>Float64.</summary>
    public override ScalarType? InputType => ScalarType.Float64;

    /// <summary>New tensors are float64.</summary>
    public override IDisposable ForwardContext() => InitContext();

    internal override PrecisionPlugin CopyForThread() => new DoublePrecision { SharesProcess = true };
}
