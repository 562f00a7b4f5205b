using FabricSharp.Configuration;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>
/// <c>16-mixed</c> and <c>bf16-mixed</c>: parameters and gradients stay float32, forward passes run under <see cref="Autocast"/>, outputs come
/// back in the default element type. <c>16-mixed</c> scales the loss, because small gradients vanish in float16.
/// </summary>
public sealed class MixedPrecision : PrecisionPlugin
{
    private readonly ScalarType _type;

    /// <summary>Makes the plugin.</summary>
    /// <param name="precision"><c>16-mixed</c> or <c>bf16-mixed</c>.</param>
    /// <param name="device">Where the model computes.</param>
    /// <param name="scaler">Scales the loss, with <c>16-mixed</c> only. <value>Default: a new <see cref="GradScaler"/> with its defaults for 16-mixed.</value></param>
    /// <exception cref="ArgumentException">Another name, or a scaler with <c>bf16-mixed</c>.</exception>
    /// <exception cref="PlatformNotSupportedException">See <see cref="Autocast.NotSupportedReason"/>.</exception>
    public MixedPrecision(string precision, DeviceType device, GradScaler? scaler = null)
    {
        if (precision is not ("16-mixed" or "bf16-mixed"))
            throw new ArgumentException($"Passed `precision='{precision}'`. Precision must be '16-mixed' or 'bf16-mixed'.", nameof(precision));
        if (precision == "bf16-mixed" && scaler is not null)
            throw new ArgumentException("`precision='bf16-mixed'` does not use a scaler, but one was given: bfloat16 has the range of float32. Leave it out, or use '16-mixed'.", nameof(scaler));
        Autocast.RequireSupported();
        Name = precision;
        Device = device;
        _type = precision == "16-mixed" ? ScalarType.Float16 : ScalarType.BFloat16;
        Scaler = precision == "16-mixed" ? scaler ?? new GradScaler() : null;
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <summary>Where the model computes.</summary>
    public DeviceType Device { get; }

    /// <summary>Float32: what has to be narrower is cast operation by operation.</summary>
    public override ScalarType? InputType => ScalarType.Float32;

    /// <inheritdoc/>
    public override GradScaler? Scaler { get; }

    /// <summary>Autocast to float16 or bfloat16.</summary>
    public override IDisposable ForwardContext() => new Autocast(Device, _type);

    internal override void Check(FabricPlan plan)
    {
        if (plan.Accelerator.DeviceType is var device && device != Device)
            throw new ArgumentException($"precision: new MixedPrecision(\"{Name}\", DeviceType.{Device}) does not fit accelerator='{plan.Accelerator}'. Use DeviceType.{device}, or precision: \"{Name}\".", "precision");
    }

    internal override PrecisionPlugin CopyForThread() => new MixedPrecision(Name, Device, Scaler?.Copy());
}
