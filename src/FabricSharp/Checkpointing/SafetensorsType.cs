using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>The element types of the safetensors format that TorchSharp has.</summary>
internal static class SafetensorsType
{
    private static readonly (string Name, ScalarType Type, int Size)[] Known =
    [
        ("F64", ScalarType.Float64, 8), ("F32", ScalarType.Float32, 4), ("F16", ScalarType.Float16, 2), ("BF16", ScalarType.BFloat16, 2),
        ("I64", ScalarType.Int64, 8), ("I32", ScalarType.Int32, 4), ("I16", ScalarType.Int16, 2), ("I8", ScalarType.Int8, 1),
        ("U8", ScalarType.Byte, 1), ("BOOL", ScalarType.Bool, 1),
    ];

    public static string Names => string.Join(", ", Known.Select(known => known.Name));

    /// <summary>The format's name of a type; null when the format has none.</summary>
    public static string? NameOf(ScalarType type) => Array.Find(Known, known => known.Type == type).Name;

    public static int SizeOf(ScalarType type) => Array.Find(Known, known => known.Type == type).Size;

    public static ScalarType? Parse(string? name) => Array.FindIndex(Known, known => known.Name == name) is >= 0 and var index ? Known[index].Type : null;
}
