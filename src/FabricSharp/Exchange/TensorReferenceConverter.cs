using System.Text.Json;
using System.Text.Json.Serialization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Exchange;

/// <summary>Writes tensors as references and remembers them; reads references as tensors whose values are still to come.</summary>
/// <param name="tensors">The tensors in the order of the text; filled by both directions.</param>
/// <param name="device">Where tensors are made.</param>
internal sealed class TensorReferenceConverter(List<Tensor> tensors, Device device) : JsonConverter<Tensor>
{
    public override bool CanConvert(Type typeToConvert) => typeof(Tensor).IsAssignableFrom(typeToConvert);

    public override void Write(Utf8JsonWriter writer, Tensor value, JsonSerializerOptions options)
    {
        JsonSerializer.Serialize(writer, TensorReference.To(tensors.Count, value));
        tensors.Add(value);
    }

    public override Tensor Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        var made = JsonSerializer.Deserialize<TensorReference>(ref reader)!.MakeTensor(device);
        tensors.Add(made);
        return typeToConvert == typeof(Parameter) ? new Parameter(made, made.is_floating_point()) : made;
    }
}
