using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>Where one tensor lies in a file.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Its element type.</param>
/// <param name="Shape">Its shape; empty for a scalar.</param>
/// <param name="Offset">Position of its first byte, from the start of the file.</param>
/// <param name="Length">Its size in bytes.</param>
internal sealed record StoredTensor(string Name, ScalarType Type, long[] Shape, long Offset, long Length)
{
    /// <summary>Element type and shape for messages and for comparing: <c>F32[3,2]</c>.</summary>
    public string Layout => LayoutOf(Type, Shape);

    public static string LayoutOf(Tensor tensor) => LayoutOf(tensor.dtype, tensor.shape);

    private static string LayoutOf(ScalarType type, long[] shape) => $"{SafetensorsType.NameOf(type) ?? type.ToString()}[{string.Join(',', shape)}]";
}
