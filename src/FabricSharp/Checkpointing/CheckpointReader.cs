using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace FabricSharp.Checkpointing;

/// <summary>An entry of a checkpoint that is open.</summary>
/// <param name="Key">The user's name for it.</param>
/// <param name="Kind">What it is.</param>
/// <param name="File">Where its tensors are; null for the kinds that are JSON.</param>
/// <param name="Value">For the kinds that are JSON.</param>
internal sealed record StoredEntry(string Key, EntryKind Kind, SafetensorsFile? File, JsonElement Value)
{
    /// <summary>A new object with what was saved: tensors, a dictionary of tensors, or JSON.</summary>
    public object? Materialise() => Kind switch
    {
        EntryKind.Tensor => File!.Read(Key),
        EntryKind.Module => File!.ReadAll(),
        EntryKind.Optimizer => new Dictionary<string, object?> { ["description"] = OptimizerState.Describe(File!), ["tensors"] = File!.ReadAll() },
        _ => Value,
    };
}

/// <summary>An open checkpoint: a folder whose files were checked against its manifest, or a bare <c>.safetensors</c> file.</summary>
internal sealed class CheckpointReader : IDisposable
{
    private readonly Dictionary<string, SafetensorsFile> _files = [];
    private readonly Dictionary<string, StoredEntry> _entries = [];

    private CheckpointReader(string path) => Path = path;

    /// <summary>For messages.</summary>
    public string Path { get; }

    /// <summary>In the order in which they were saved. A bare file has one for each tensor.</summary>
    public IReadOnlyDictionary<string, StoredEntry> Entries => _entries;

    /// <summary>The bare file; null for a folder.</summary>
    public SafetensorsFile? BareFile { get; private set; }

    /// <exception cref="CheckpointException">There is none, or something about it is wrong.</exception>
    public static CheckpointReader Open(string path)
    {
        var place = new CheckpointPlace(path);
        var reader = new CheckpointReader(place.Path);
        try
        {
            using var folder = CheckpointFolder.Open(place);
            if (folder is null)
                reader.ReadBareFile();
            else
                reader.ReadFolder(folder);
            return reader;
        }
        catch (Exception e)
        {
            reader.Dispose();
            if (e is IOException or UnauthorizedAccessException)
                throw new CheckpointException($"The checkpoint '{place.Path}' could not be read: {e.Message}", e);
            throw;
        }
    }

    public void Dispose()
    {
        foreach (var file in _files.Values)
            file.Dispose();
    }

    private void ReadBareFile()
    {
        var handle = File.OpenHandle(Path);
        Span<byte> magic = stackalloc byte[2];
        if (RandomAccess.Read(handle, magic, 0) == 2 && (magic.SequenceEqual("PK"u8) || magic[0] == 0x80))
        {
            handle.Dispose();
            throw new CheckpointException($"'{Path}' looks like a file of PyTorch's torch.save, which cannot be read here. Convert it in Python: safetensors.torch.save_file(torch.load(path), \"model.safetensors\").");
        }

        BareFile = Add(Path, handle);
        foreach (var name in BareFile.Tensors.Keys)
            _entries.Add(name, new StoredEntry(name, EntryKind.Tensor, BareFile, default));
    }

    private void ReadFolder(CheckpointFolder folder)
    {
        var path = folder.PathOf(CheckpointWriter.StateFileName);
        using var stream = new FileStream(folder.Take(CheckpointWriter.StateFileName), FileAccess.Read);
        try
        {
            using var document = JsonDocument.Parse(stream, new JsonDocumentOptions { MaxDepth = PlainValue.MaxDepth + 8, AllowDuplicateProperties = false });
            foreach (var property in document.RootElement.GetProperty("entries").EnumerateObject())
                _entries.Add(property.Name, ReadEntry(folder, property.Name, property.Value));
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw new CheckpointException($"'{path}' is corrupt: {e.Message}", e);
        }
    }

    private StoredEntry ReadEntry(CheckpointFolder folder, string key, JsonElement element)
    {
        var kindName = element.GetProperty("kind").GetString();
        var kind = CheckpointWriter.ParseKind(kindName) ?? throw new JsonException($"the entry '{key}' is of the unknown kind '{kindName}'");
        if (kind is not (EntryKind.Module or EntryKind.Optimizer or EntryKind.Tensor))
            return new StoredEntry(key, kind, null, element.GetProperty("value").Clone());
        var name = element.GetProperty("file").GetString() ?? throw new JsonException($"the entry '{key}' has no file");
        if (!_files.TryGetValue(folder.PathOf(name), out var file))
            file = Add(folder.PathOf(name), folder.Take(name));
        if (kind == EntryKind.Tensor && !file.Tensors.ContainsKey(key))
            throw new JsonException($"the tensor '{key}' is not in the file '{name}'");
        return new StoredEntry(key, kind, file, default);
    }

    private SafetensorsFile Add(string path, SafeFileHandle handle)
    {
        try
        {
            return _files[path] = new SafetensorsFile(path, handle);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }
}
