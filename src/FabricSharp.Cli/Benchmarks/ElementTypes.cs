using static TorchSharp.torch;

namespace FabricSharp.Cli.Benchmarks;

/// <summary>Element types and reductions by their names.</summary>
internal static class ElementTypes
{
    private static readonly Dictionary<string, ScalarType> Known = new()
    {
        ["float32"] = ScalarType.Float32,
        ["float64"] = ScalarType.Float64,
        ["float16"] = ScalarType.Float16,
        ["bfloat16"] = ScalarType.BFloat16,
        ["int8"] = ScalarType.Int8,
        ["uint8"] = ScalarType.Byte,
        ["int32"] = ScalarType.Int32,
        ["int64"] = ScalarType.Int64,
    };

    public static IReadOnlyCollection<string> Names => Known.Keys;

    public static ScalarType Of(string name) => Known[name];

    public static int BytesOf(ScalarType type) => type switch
    {
        ScalarType.Int8 or ScalarType.Byte => 1,
        ScalarType.Float16 or ScalarType.BFloat16 => 2,
        ScalarType.Int64 or ScalarType.Float64 => 8,
        _ => 4,
    };
}
