using System.Text.Json.Serialization;
using static TorchSharp.torch;

namespace FabricSharp.Exchange;

/// <summary>What stands for a tensor in JSON: its place among the tensors that follow, and what is needed to make room for it.</summary>
/// <param name="Index">From 0, in the order of the text.</param>
/// <param name="Type">Name of the element type.</param>
/// <param name="Shape">Sizes.</param>
internal sealed record TensorReference(
    [property: JsonPropertyName(TensorReference.Mark)] int Index,
    [property: JsonPropertyName("type")] string Type,
    [property: JsonPropertyName("shape")] long[] Shape)
{
    /// <summary>The property by which a reference is told from any other object.</summary>
    public const string Mark = "$tensor";

    public static TensorReference To(int index, Tensor tensor) => new(index, tensor.dtype.ToString(), tensor.shape);

    public bool Fits(Tensor tensor) => tensor.dtype.ToString() == Type && tensor.shape.SequenceEqual(Shape);

    public Tensor MakeTensor(Device device) => empty(Shape, Enum.Parse<ScalarType>(Type), device);
}
