using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>
/// <c>16-true</c> and <c>bf16-true</c>: parameters, buffers, gradients and floating-point inputs in float16 or bfloat16; outputs come back
/// in the default element type. The default element type is the narrow one inside forward passes (unless ranks are threads: it belongs to
/// the whole process).
/// </summary>
public sealed class HalfPrecision : PrecisionPlugin
{
    private readonly ScalarType _type;

    /// <summary>Makes the plugin.</summary>
    /// <param name="precision"><c>16-true</c> or <c>bf16-true</c>.</param>
    /// <exception cref="ArgumentException">Another name.</exception>
    public HalfPrecision(string precision = "16-true")
    {
        Name = precision;
        _type = precision switch
        {
            "16-true" => ScalarType.Float16,
            "bf16-true" => ScalarType.BFloat16,
            _ => throw new ArgumentException($"Passed `precision='{precision}'`. Precision must be '16-true' or 'bf16-true'.", nameof(precision)),
        };
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <summary>Float16 or BFloat16.</summary>
    public override ScalarType? ParameterType => _type;

    /// <summary>Float16 or BFloat16.</summary>
    public override ScalarType? InputType => _type;

    /// <summary>New tensors are of the narrow type.</summary>
    public override IDisposable ForwardContext() => InitContext();

    internal override PrecisionPlugin CopyForThread() => new HalfPrecision(Name) { SharesProcess = true };
}
