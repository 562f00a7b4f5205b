using System.Buffers.Binary;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>
/// What stands at the beginning of a <c>.safetensors</c> file: the length of a JSON object (8 bytes, little-endian) and the object, which
/// tells type, shape and place of each tensor. Everything is checked here, so that what follows can trust it.
/// </summary>
/// <param name="Tensors">In the order of the file.</param>
/// <param name="Metadata">Texts that came with the tensors.</param>
internal sealed record SafetensorsHeader(IReadOnlyDictionary<string, StoredTensor> Tensors, IReadOnlyDictionary<string, string> Metadata)
{
    public const string MetadataName = "__metadata__";
    public const int LengthBytes = 8;

    /// <summary>The limit of the reference implementation.</summary>
    public const long MaxLength = 100_000_000;

    public static SafetensorsHeader Read(SafeFileHandle handle, string file)
    {
        var fileLength = RandomAccess.GetLength(handle);
        var json = ReadJson(handle, file, fileLength);
        try
        {
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 8, AllowDuplicateProperties = false });
            return Parse(document.RootElement, LengthBytes + json.Length, fileLength);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or KeyNotFoundException)
        {
            throw new CheckpointException($"'{file}' is no valid safetensors file: {e.Message}", e);
        }
    }

    private static byte[] ReadJson(SafeFileHandle handle, string file, long fileLength)
    {
        Span<byte> prefix = stackalloc byte[LengthBytes];
        if (fileLength < LengthBytes)
            throw new CheckpointException($"'{file}' is no safetensors file: it has {fileLength} bytes, which is less than its header's length takes. It is truncated or something else.");
        TensorBytes.ReadExactly(handle, file, prefix, 0);
        var length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (length > MaxLength || (long)length > fileLength - LengthBytes)
            throw new CheckpointException($"'{file}' is no safetensors file: its header would take {length} bytes of a file of {fileLength} (the limit is {MaxLength}). It is truncated or something else.");
        var json = new byte[length];
        TensorBytes.ReadExactly(handle, file, json, LengthBytes);
        return json;
    }

    private static SafetensorsHeader Parse(JsonElement root, long dataStart, long fileLength)
    {
        var metadata = new Dictionary<string, string>();
        var tensors = new Dictionary<string, StoredTensor>();
        foreach (var property in root.EnumerateObject())
            if (property.Name == MetadataName)
                metadata = property.Value.EnumerateObject().ToDictionary(text => text.Name, text => text.Value.GetString() ?? throw new FormatException($"the text '{text.Name}' of {MetadataName} is null"));
            else
                tensors.Add(property.Name, ParseTensor(property.Name, property.Value, dataStart, fileLength));
        RequireGapless(tensors.Values, dataStart, fileLength);
        return new SafetensorsHeader(tensors, metadata);
    }

    private static StoredTensor ParseTensor(string name, JsonElement element, long dataStart, long fileLength)
    {
        var typeName = element.GetProperty("dtype").GetString();
        var type = SafetensorsType.Parse(typeName)
            ?? throw new FormatException($"tensor '{name}' has the type '{typeName}', which TorchSharp has not. Known: {SafetensorsType.Names}");
        var shape = element.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64()).ToArray();
        var offsets = element.GetProperty("data_offsets");
        if (offsets.GetArrayLength() != 2)
            throw new FormatException($"tensor '{name}' has {offsets.GetArrayLength()} data_offsets instead of 2");
        var (begin, end) = (offsets[0].GetInt64(), offsets[1].GetInt64());
        if (begin < 0 || end < begin || end > fileLength - dataStart)
            throw new FormatException($"tensor '{name}' lies at bytes {begin} to {end} of {fileLength - dataStart} bytes of data: the file is truncated or corrupt");
        if (end - begin != BytesOf(name, shape, type))
            throw new FormatException($"tensor '{name}' of {typeName}[{string.Join(',', shape)}] cannot have {end - begin} bytes");
        return new StoredTensor(name, type, shape, dataStart + begin, end - begin);
    }

    private static long BytesOf(string name, long[] shape, ScalarType type)
    {
        if (shape.Any(size => size < 0))
            throw new FormatException($"tensor '{name}' has the shape [{string.Join(',', shape)}]");
        try
        {
            // Sizes of zero count as one here: libtorch multiplies the others for its strides.
            var bytes = shape.Aggregate((long)SafetensorsType.SizeOf(type), (product, size) => checked(product * Math.Max(size, 1)));
            return shape.Contains(0) ? 0 : bytes;
        }
        catch (OverflowException)
        {
            throw new FormatException($"tensor '{name}' has the shape [{string.Join(',', shape)}], which is larger than any memory");
        }
    }

    private static void RequireGapless(IEnumerable<StoredTensor> tensors, long dataStart, long fileLength)
    {
        var position = dataStart;
        foreach (var tensor in tensors.OrderBy(tensor => tensor.Offset).ThenBy(tensor => tensor.Length))
        {
            if (tensor.Offset != position)
                throw new FormatException($"tensor '{tensor.Name}' {(tensor.Offset < position ? "overlaps the one before it" : "leaves a gap before it")}: it begins at byte {tensor.Offset} instead of {position}");
            position += tensor.Length;
        }

        if (position != fileLength)
            throw new FormatException($"its tensors end at byte {position}, but the file has {fileLength} bytes");
    }
}
