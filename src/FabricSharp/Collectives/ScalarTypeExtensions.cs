using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>Sizes of the element types that collectives know.</summary>
internal static class ScalarTypeExtensions
{
    public static long SizeInBytes(this ScalarType type) => type switch
    {
        ScalarType.Byte or ScalarType.Int8 or ScalarType.Bool => 1,
        ScalarType.Int16 or ScalarType.Float16 or ScalarType.BFloat16 => 2,
        ScalarType.Int32 or ScalarType.Float32 => 4,
        ScalarType.Int64 or ScalarType.Float64 or ScalarType.ComplexFloat32 => 8,
        ScalarType.ComplexFloat64 => 16,
        _ => throw new ArgumentException($"Tensors of {type} cannot be communicated.", nameof(type)),
    };

    public static bool CanBeCommunicated(this ScalarType type) =>
        type.IsFloatingPoint() || type.IsInteger() || type is ScalarType.Bool or ScalarType.ComplexFloat32 or ScalarType.ComplexFloat64;

    public static bool IsFloatingPoint(this ScalarType type) =>
        type is ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Float32 or ScalarType.Float64;

    public static bool IsInteger(this ScalarType type) =>
        type is ScalarType.Byte or ScalarType.Int8 or ScalarType.Int16 or ScalarType.Int32 or ScalarType.Int64;
}
