using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>Values other than tensors, modules and optimizers: whatever System.Text.Json writes and reads.</summary>
internal static class PlainValue
{
    /// <summary>How deep a value may be nested.</summary>
    public const int MaxDepth = 64;

    /// <summary>Fields, so that tuples are kept; names for infinities, which "best loss so far" often begins with.</summary>
    public static readonly JsonSerializerOptions Json = new()
    {
        IncludeFields = true,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        MaxDepth = MaxDepth,
        Converters = { new RefuseTorchObjects() },
    };

    /// <exception cref="ArgumentException">The value cannot be written as JSON.</exception>
    public static JsonElement Save(string key, object? value)
    {
        try
        {
            return JsonSerializer.SerializeToElement(value, value?.GetType() ?? typeof(object), Json);
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or InvalidOperationException)
        {
            throw new ArgumentException($"Save(state[\"{key}\"]): a {value!.GetType()} cannot be saved, because it cannot be written as JSON: {e.Message}", "state", e);
        }
    }

    /// <summary>Reads a value as the type of <paramref name="current"/>; where that is null, as it was saved.</summary>
    /// <exception cref="CheckpointException">It is of another kind.</exception>
    public static object? Load(string path, StoredEntry entry, object? current)
    {
        if (current is null)
            return entry.Materialise();
        if (entry.Kind != EntryKind.Value)
            throw new CheckpointException($"'{path}' holds a {CheckpointWriter.NameOf(entry.Kind)} as '{entry.Key}', which cannot be loaded into the {current.GetType()} of state[\"{entry.Key}\"].");
        try
        {
            return entry.Value.Deserialize(current.GetType(), Json);
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or InvalidOperationException)
        {
            throw new CheckpointException($"'{path}' holds {Shortened(entry.Value.GetRawText())} as '{entry.Key}', which cannot be read as the {current.GetType()} of state[\"{entry.Key}\"]: {e.Message}", e);
        }
    }

    private static string Shortened(string text) => text.Length <= 80 ? text : text[..80] + "…";

    /// <summary>A tensor inside a list would be written as its public properties and never be one again.</summary>
    private sealed class RefuseTorchObjects : JsonConverterFactory
    {
        public override bool CanConvert(Type typeToConvert) =>
            typeof(nn.Module).IsAssignableFrom(typeToConvert) || typeof(optim.Optimizer).IsAssignableFrom(typeToConvert)
            || (typeToConvert.Assembly == typeof(Tensor).Assembly && !typeToConvert.IsEnum);

        public override JsonConverter? CreateConverter(Type typeToConvert, JsonSerializerOptions options) =>
            throw new NotSupportedException($"it is or contains a {typeToConvert}. Tensors, modules and optimizers must be entries of `state` themselves, not lie inside others; of other TorchSharp objects save the numbers that they are made from.");
    }
}
