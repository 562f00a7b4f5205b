using System.Text.Json;
using System.Text.Json.Serialization;
using static TorchSharp.torch;

namespace FabricSharp.Exchange;

/// <summary>
/// Values whose place has the type <c>object</c>, as in <c>Dictionary&lt;string, object&gt;</c>: tensors come back as tensors, numbers as long or double, texts and
/// booleans as themselves, lists as <c>List&lt;object?&gt;</c>, everything else as <c>Dictionary&lt;string, object?&gt;</c>.
/// </summary>
internal sealed class PlainObjectConverter : JsonConverter<object>
{
    public override bool CanConvert(Type typeToConvert) => typeToConvert == typeof(object);

    public override void Write(Utf8JsonWriter writer, object value, JsonSerializerOptions options)
    {
        if (value.GetType() == typeof(object))
            throw new NotSupportedException("an object of type System.Object has nothing to write.");
        JsonSerializer.Serialize(writer, value, value.GetType(), options);
    }

    public override object? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.TokenType switch
    {
        JsonTokenType.True => true,
        JsonTokenType.False => false,
        JsonTokenType.String => reader.GetString(),
        JsonTokenType.Number => reader.TryGetInt64(out var whole) ? whole : reader.GetDouble(),
        JsonTokenType.StartArray => JsonSerializer.Deserialize<List<object?>>(ref reader, options),
        JsonTokenType.StartObject => IsReference(reader) ? JsonSerializer.Deserialize<Tensor>(ref reader, options) : JsonSerializer.Deserialize<Dictionary<string, object?>>(ref reader, options),
        _ => null,
    };

    /// <param name="ahead">A copy: the reader itself stays where it is.</param>
    private static bool IsReference(Utf8JsonReader ahead) => ahead.Read() && ahead.TokenType == JsonTokenType.PropertyName && ahead.ValueTextEquals(TensorReference.Mark);
}
