using System.Buffers;
using System.Numerics;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>Values without tensors as JSON: what a state's plain values are elsewhere, too.</summary>
internal sealed class PickledJson
{
    private const int MaxBytes = 256 << 20;
    private const int MaxValues = 4_000_000;

    private long _values;
    private long _bytes;

    /// <exception cref="FormatException">It contains tensors, itself, or more than a file can be trusted with.</exception>
    public JsonElement Convert(object? value)
    {
        var json = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(json, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            Write(writer, value, 0);
        using var document = JsonDocument.Parse(json.WrittenMemory, new JsonDocumentOptions { MaxDepth = PlainValue.MaxDepth + 1 });
        return document.RootElement.Clone();
    }

    private void Write(Utf8JsonWriter writer, object? value, int depth)
    {
        Count(depth, SizeOf(value), 1);
        switch (value)
        {
            case null: writer.WriteNullValue(); break;
            case bool truth: writer.WriteBooleanValue(truth); break;
            case long number: writer.WriteNumberValue(number); break;
            case BigInteger number: writer.WriteRawValue(number.ToString(System.Globalization.CultureInfo.InvariantCulture)); break;
            case double number when double.IsFinite(number): writer.WriteNumberValue(number); break;
            case double number: writer.WriteStringValue(double.IsNaN(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity"); break;
            case string: writer.WriteStringValue((string)value); break;
            case byte[] bytes: writer.WriteBase64StringValue(bytes); break;
            case PickleText known: writer.WriteStringValue(known.Text); break;
            case PickleGlobal known: writer.WriteStringValue(known.Name); break;
            case Complex number: WriteList(writer, [number.Real, number.Imaginary], depth); break;
            case PickleTuple tuple: WriteList(writer, tuple.Items, depth); break;
            case PickleList list: WriteList(writer, list.Items, depth); break;
            case PickleSet set: WriteList(writer, set.Items, depth); break;
            case PickleDict dict: WriteDict(writer, dict, depth); break;
            default: throw new FormatException("a value in it refers to itself or to tensors in a way that is not read");
        }
    }

    private static int SizeOf(object? value) => value switch
    {
        string text => text.Length,
        byte[] bytes => bytes.Length,
        BigInteger number => number.GetByteCount() * 3,
        PickleText known => known.Text.Length,
        _ => 0,
    };

    private void WriteList(Utf8JsonWriter writer, IReadOnlyList<object?> items, int depth)
    {
        writer.WriteStartArray();
        foreach (var item in items)
            Write(writer, item, depth + 1);
        writer.WriteEndArray();
    }

    private void WriteDict(Utf8JsonWriter writer, PickleDict dict, int depth)
    {
        writer.WriteStartObject();
        Count(depth, 0, dict.Items.Count); // also where the same key comes again and again
        foreach (var (name, value) in PickledNames.Of(dict))
        {
            Count(depth, name.Length, 0);
            writer.WritePropertyName(name);
            Write(writer, value, depth + 1);
        }

        writer.WriteEndObject();
    }

    /// <summary>A few bytes of a pickle can name the same list again and again: the limit is on what comes of it.</summary>
    private void Count(int depth, int bytes, int values)
    {
        _bytes += bytes;
        _values += values;
        if (depth > PlainValue.MaxDepth)
            throw new FormatException($"its values are nested deeper than {PlainValue.MaxDepth} levels, or contain themselves");
        if (_values > MaxValues || _bytes > MaxBytes)
            throw new FormatException($"its values without tensors are more than {MaxValues} or take more than {MaxBytes} bytes");
    }
}
