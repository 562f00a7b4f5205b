using System.Buffers;
using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>Writes a <c>.safetensors</c> file straight from the tensors' memory.</summary>
internal static class SafetensorsWriter
{
    /// <param name="folder">An existing folder.</param>
    /// <param name="name">The file's name.</param>
    /// <param name="tensors">With different names, of types that <see cref="RequireSupported"/> accepts.</param>
    /// <param name="metadata">Texts that go with them.</param>
    public static ManifestFile Write(string folder, string name, IReadOnlyList<(string Name, Tensor Tensor)> tensors, IReadOnlyDictionary<string, string> metadata) =>
        Write(folder, name, [.. tensors.Select(tensor => (tensor.Name, tensor.Tensor.dtype, tensor.Tensor.shape))], metadata, (index, file) => TensorBytes.Write(tensors[index].Tensor, file));

    /// <summary>The same for tensors of which only the layout is known.</summary>
    /// <param name="folder">An existing folder.</param>
    /// <param name="name">The file's name.</param>
    /// <param name="layouts">Name, type and shape of each.</param>
    /// <param name="metadata">Texts that go with them.</param>
    /// <param name="write">Writes the elements of the tensor with an index in <paramref name="layouts"/>.</param>
    public static ManifestFile Write(
        string folder, string name, IReadOnlyList<(string Name, ScalarType Type, long[] Shape)> layouts, IReadOnlyDictionary<string, string> metadata, Action<int, HashedFile> write)
    {
        // The widest elements first: then each tensor lies on a multiple of its element size.
        var order = Enumerable.Range(0, layouts.Count).OrderByDescending(index => SafetensorsType.SizeOf(layouts[index].Type)).ToList();
        var ordered = order.ConvertAll(index => layouts[index]);
        var header = HeaderOf(ordered, metadata);
        using var file = new HashedFile(folder, name, header.Length + ordered.Sum(SizeOf));
        file.Write(header);
        order.ForEach(index => write(index, file));
        return file.Finish();
    }

    /// <exception cref="ArgumentException">The format cannot hold the tensor.</exception>
    public static void RequireSupported(string owner, string name, Tensor tensor)
    {
        if (tensor.IsInvalid)
            throw new ArgumentException($"{owner}: the tensor '{name}' was disposed. (TorchSharp's module.to(…) disposes the tensors of tied weights; Fabric's Setup does not.)", "state");
        if (SafetensorsType.NameOf(tensor.dtype) is null || tensor.is_sparse)
            throw new ArgumentException($"{owner}: the tensor '{name}' of {(tensor.is_sparse ? "sparse " : "")}{tensor.dtype} cannot be saved. A checkpoint holds dense tensors of {SafetensorsType.Names}: convert it.", "state");
        if (name == SafetensorsHeader.MetadataName)
            throw new ArgumentException($"{owner}: no tensor can be called '{name}', the file format needs that name itself. Choose another.", "state");
    }

    private static long SizeOf((string Name, ScalarType Type, long[] Shape) tensor) => tensor.Shape.Aggregate((long)SafetensorsType.SizeOf(tensor.Type), (product, size) => product * size);

    private static byte[] HeaderOf(IReadOnlyList<(string Name, ScalarType Type, long[] Shape)> tensors, IReadOnlyDictionary<string, string> metadata)
    {
        var json = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(json, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            WriteJson(writer, tensors, metadata);
        var length = (json.WrittenCount + 7) / 8 * 8; // so that the data begin on a multiple of 8
        if (length > SafetensorsHeader.MaxLength)
            throw new ArgumentException($"The names of {tensors.Count} tensors take {length} bytes; the safetensors format allows {SafetensorsHeader.MaxLength}.", nameof(tensors));
        var header = new byte[SafetensorsHeader.LengthBytes + length];
        BinaryPrimitives.WriteInt64LittleEndian(header, length);
        header.AsSpan(SafetensorsHeader.LengthBytes).Fill((byte)' ');
        json.WrittenSpan.CopyTo(header.AsSpan(SafetensorsHeader.LengthBytes));
        return header;
    }

    private static void WriteJson(Utf8JsonWriter writer, IReadOnlyList<(string Name, ScalarType Type, long[] Shape)> tensors, IReadOnlyDictionary<string, string> metadata)
    {
        writer.WriteStartObject();
        writer.WriteStartObject(SafetensorsHeader.MetadataName);
        foreach (var (name, text) in metadata)
            writer.WriteString(name, text);
        writer.WriteEndObject();
        var position = 0L;
        foreach (var tensor in tensors)
        {
            writer.WriteStartObject(tensor.Name);
            writer.WriteString("dtype", SafetensorsType.NameOf(tensor.Type));
            WriteNumbers(writer, "shape", tensor.Shape);
            WriteNumbers(writer, "data_offsets", position, position += SizeOf(tensor));
            writer.WriteEndObject();
        }

        writer.WriteEndObject();
    }

    private static void WriteNumbers(Utf8JsonWriter writer, string name, params ReadOnlySpan<long> numbers)
    {
        writer.WriteStartArray(name);
        foreach (var number in numbers)
            writer.WriteNumberValue(number);
        writer.WriteEndArray();
    }
}
