using System.Text.Json;
using FabricSharp.Checkpointing.PyTorch;
using Microsoft.Win32.SafeHandles;

namespace FabricSharp.Checkpointing;

/// <summary>An entry of a checkpoint that is open.</summary>
/// <param name="Key">The user's name for it.</param>
/// <param name="Kind">What it is.</param>
/// <param name="File">Where its tensors are; null for the kinds that are JSON.</param>
/// <param name="Value">For the kinds that are JSON.</param>
internal record StoredEntry(string Key, EntryKind Kind, TensorFile? File, JsonElement Value)
{
    /// <summary>A new object with what was saved: tensors, a dictionary of tensors, or JSON.</summary>
    public virtual object? Materialise() => Kind switch
    {
        EntryKind.Tensor => File!.Read(Key),
        EntryKind.Module => File!.ReadAll(),
        EntryKind.Optimizer => new Dictionary<string, object?> { ["description"] = OptimizerState.Describe(File!), ["tensors"] = File!.ReadAll() },
        _ => Value,
    };
}

/// <summary>An open checkpoint: a folder whose files were checked against its manifest, a bare <c>.safetensors</c> file, or a file of PyTorch.</summary>
internal sealed class CheckpointReader : IDisposable
{
    private const int MaxKeysShown = 20;

    private readonly Dictionary<string, SafetensorsFile> _files = [];
    private readonly Dictionary<string, StoredEntry> _entries = [];
    private TorchFile? _torch;

    private CheckpointReader(string path) => Path = path;

    /// <summary>For messages.</summary>
    public string Path { get; }

    /// <summary>In the order in which they were saved. A bare file has one for each tensor.</summary>
    public IReadOnlyDictionary<string, StoredEntry> Entries => _entries;

    /// <summary>What it is, in words.</summary>
    public string Format { get; private set; } = "safetensors file";

    /// <summary>False for a file, which other programs may have written, with names of their own.</summary>
    public bool IsFolder { get; private set; }

    /// <summary>Whether the content was, or could be, compared with checksums that came with it.</summary>
    public bool HasCheckSums => IsFolder || (_torch?.HasCheckSums ?? false);

    /// <summary>The bare file, or the file of PyTorch with just a state dict; else null.</summary>
    public TensorFile? BareFile { get; private set; }

    /// <param name="path">Of the folder or file.</param>
    /// <param name="checkSums">False leaves out comparing the checksums inside a file of PyTorch, which reads it once more. <value>Default true.</value></param>
    /// <exception cref="CheckpointException">There is none, or something about it is wrong.</exception>
    public static CheckpointReader Open(string path, bool checkSums = true)
    {
        var place = new CheckpointPlace(path);
        var reader = new CheckpointReader(place.Path);
        try
        {
            using var folder = CheckpointFolder.Open(place);
            if (folder is null)
                reader.ReadBareFile(checkSums);
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

    /// <summary>The tensors of the only entry of a kind, or the bare file.</summary>
    /// <exception cref="CheckpointException">There is none, or there are several.</exception>
    public TensorFile OnlyFileOf(EntryKind kind)
    {
        if (BareFile is { } bare)
            return bare;
        var entries = Entries.Values.Where(entry => entry.Kind == kind).ToList();
        if (entries.Count != 1)
            throw new CheckpointException($"'{Path}' holds {entries.Count} entries of the kind {CheckpointWriter.NameOf(kind)} ({Keys(entries.Select(entry => entry.Key))}), exactly one is needed here. Name the key of the one that is meant (in Load or Compare, or as --key), or the path of a .safetensors file.");
        return entries[0].File!;
    }

    /// <summary>The tensors of an entry.</summary>
    /// <param name="key">Of the entry; null for the only one of the kind, or for the bare file.</param>
    /// <param name="kind">Of the entry, where no key is given.</param>
    /// <exception cref="CheckpointException">There is no such entry, or it is none with tensors by name.</exception>
    public TensorFile TensorsOf(string? key, EntryKind kind)
    {
        if (key is null)
            return OnlyFileOf(kind);
        if (!_entries.TryGetValue(key, out var entry))
            throw new CheckpointException($"'{Path}' has no entry '{key}'. It has: {Keys(_entries.Keys)}.");
        return entry.Kind is EntryKind.Module or EntryKind.Optimizer ? entry.File! : throw new CheckpointException($"'{Path}': the entry '{key}' is a {CheckpointWriter.NameOf(entry.Kind)}, not a dictionary of tensors.");
    }

    /// <summary>For messages.</summary>
    public static string Keys(IEnumerable<string> keys) => string.Join(", ", keys.Take(MaxKeysShown + 1).Select((key, i) => i < MaxKeysShown ? $"'{key}'" : "…")) is { Length: > 0 } text ? text : "nothing";

    public void Dispose()
    {
        foreach (var file in _files.Values)
            file.Dispose();
        _torch?.Dispose();
    }

    private void ReadBareFile(bool checkSums)
    {
        var handle = File.OpenHandle(Path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        if (TorchFile.IsOne(handle))
        {
            ReadTorchFile(TorchFile.Open(Path, handle, checkSums));
            return;
        }

        BareFile = Add(Path, handle);
        foreach (var name in BareFile.Tensors.Keys)
            _entries.Add(name, new StoredEntry(name, EntryKind.Tensor, BareFile, default));
    }

    private void ReadTorchFile(TorchFile file)
    {
        _torch = file;
        Format = file.Format;
        (var entries, BareFile) = TorchEntries.Of(file);
        foreach (var entry in entries)
            _entries.Add(entry.Key, entry);
    }

    private void ReadFolder(CheckpointFolder folder)
    {
        IsFolder = true;
        Format = $"FabricSharp checkpoint, version {CheckpointManifest.CurrentVersion}";
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
        if (kind == EntryKind.Nested)
            throw new JsonException($"the entry '{key}' is of the kind '{kindName}', which a folder cannot hold");
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
