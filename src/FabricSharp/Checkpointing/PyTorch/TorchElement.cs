using static TorchSharp.torch;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>An element type of PyTorch that TorchSharp has.</summary>
/// <param name="Name">As in <c>torch.float32</c>.</param>
/// <param name="Storage">As in <c>torch.FloatStorage</c>.</param>
/// <param name="Type">TorchSharp's.</param>
/// <param name="Size">In bytes.</param>
internal sealed record TorchElement(string Name, string Storage, ScalarType Type, int Size)
{
    public static readonly IReadOnlyList<TorchElement> All =
    [
        new("float32", "FloatStorage", ScalarType.Float32, 4),
        new("float64", "DoubleStorage", ScalarType.Float64, 8),
        new("float16", "HalfStorage", ScalarType.Float16, 2),
        new("bfloat16", "BFloat16Storage", ScalarType.BFloat16, 2),
        new("int64", "LongStorage", ScalarType.Int64, 8),
        new("int32", "IntStorage", ScalarType.Int32, 4),
        new("int16", "ShortStorage", ScalarType.Int16, 2),
        new("int8", "CharStorage", ScalarType.Int8, 1),
        new("uint8", "ByteStorage", ScalarType.Byte, 1),
        new("bool", "BoolStorage", ScalarType.Bool, 1),
        new("complex64", "ComplexFloatStorage", ScalarType.ComplexFloat32, 8),
        new("complex128", "ComplexDoubleStorage", ScalarType.ComplexFloat64, 16),
    ];
}
