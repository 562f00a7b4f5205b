using System.Globalization;
using FabricSharp.Configuration;
using TorchSharp;

namespace FabricSharp.Precision;

/// <summary>The precisions by name, with the short forms of older programs.</summary>
internal static class PrecisionNames
{
    private static readonly Dictionary<string, string> ShortForms = new() { ["64"] = "64-true", ["32"] = "32-true", ["16"] = "16-mixed", ["bf16"] = "bf16-mixed" };

    public static IReadOnlyList<string> Accepted { get; } =
        ["16-true", "16-mixed", "bf16-true", "bf16-mixed", "32-true", "64-true", "64", "32", "16", "bf16"];

    /// <summary>The full name that <paramref name="text"/> means, if any.</summary>
    public static string Canonical(string text)
    {
        var name = text.Trim().ToLower(CultureInfo.InvariantCulture);
        return ShortForms.GetValueOrDefault(name, name);
    }

    /// <param name="text">A name or a short form, in any case.</param>
    /// <param name="device">What the model computes on: there is no 16-mixed on the CPU.</param>
    /// <param name="warn">Gets what the user should know.</param>
    /// <exception cref="ArgumentException">The name is unknown.</exception>
    public static PrecisionPlugin Resolve(string text, DeviceType device, Action<string> warn)
    {
        var name = Canonical(text);
        if (text.Trim() is { } given && (given == "16" || given.Equals("bf16", StringComparison.OrdinalIgnoreCase)))
            warn($"`precision={given}` is supported for historical reasons but its usage is discouraged. Please set your precision to {name} instead!");
        if (name == "16-mixed" && device == DeviceType.CPU)
        {
            warn("`Fabric(accelerator='cpu', precision='16-mixed')` was passed but AMP with fp16 is not supported on CPU. Using `precision='bf16-mixed'` instead.");
            name = "bf16-mixed";
        }

        return name switch
        {
            "32-true" => new FullPrecision(),
            "64-true" => new DoublePrecision(),
            "16-true" or "bf16-true" => new HalfPrecision(name),
            "16-mixed" or "bf16-mixed" => new MixedPrecision(name, device),
            _ => throw Unknown(text),
        };
    }

    private static ArgumentException Unknown(string text) =>
        new($"Precision '{text}' is invalid. Allowed precision values: {string.Join(", ", Accepted)}.{UnknownName.Guess(text, Accepted)}", "precision");
}
