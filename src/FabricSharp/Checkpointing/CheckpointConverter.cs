namespace FabricSharp.Checkpointing;

/// <summary>What to convert and under which names.</summary>
/// <param name="Key">The entry to take; for a folder out of a file with one module, the name it gets. Null takes all, or the only one.</param>
/// <param name="StripPrefix">Taken off the names of tensors that begin with it.</param>
/// <param name="Prefix">Put in front of the names of tensors.</param>
/// <param name="Replace">Whether an existing result may be replaced.</param>
internal sealed record ConversionOptions(string? Key = null, string? StripPrefix = null, string? Prefix = null, bool Replace = false);

/// <summary>What a conversion came to.</summary>
/// <param name="Tensors">How many were written.</param>
/// <param name="Bytes">Of their elements.</param>
/// <param name="LeftOut">Entries that the result cannot hold, with the reason.</param>
internal sealed record ConversionResult(int Tensors, long Bytes, IReadOnlyList<string> LeftOut);

/// <summary>Writes a checkpoint of any kind that is read as a <c>.safetensors</c> file or as a folder. Needs no libtorch.</summary>
internal sealed class CheckpointConverter
{
    /// <summary>Tensors that share memory are written one by one: how much more may come out than went in.</summary>
    private const int MaxGrowth = 16;

    private const string DefaultKey = "model";

    private readonly CheckpointReader _reader;
    private readonly ConversionOptions _options;
    private readonly List<string> _leftOut = [];
    private int _tensors;
    private long _bytes;

    private CheckpointConverter(CheckpointReader reader, ConversionOptions options)
    {
        _reader = reader;
        _options = options;
    }

    private ConversionResult Result => new(_tensors, _bytes, _leftOut);

    /// <exception cref="CheckpointException">The source is missing, corrupt or holds no such entry, or writing failed.</exception>
    /// <exception cref="ArgumentException">Source, target and options do not go together.</exception>
    public static ConversionResult Convert(string source, string target, ConversionOptions options)
    {
        RequireWritable(source, target, options);
        using var reader = CheckpointReader.Open(source);
        var converter = new CheckpointConverter(reader, options);
        try
        {
            return IsSafetensors(target) ? converter.ToFile(Path.GetFullPath(target)) : converter.ToFolder(target);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"'{target}' could not be written: {e.Message}", e);
        }
    }

    private static bool IsSafetensors(string path) => Path.GetExtension(path).Equals(".safetensors", StringComparison.OrdinalIgnoreCase);

    private static void RequireWritable(string source, string target, ConversionOptions options)
    {
        if (Path.GetExtension(target).ToLowerInvariant() is ".pt" or ".pth" or ".ckpt" or ".bin")
            throw new ArgumentException($"'{target}': pickles are read here, not written. Write a .safetensors file, which Python reads with safetensors.torch.load_file(path).", nameof(target));
        if (Path.GetFullPath(source) == Path.GetFullPath(target))
            throw new ArgumentException($"'{target}' is the source, too. Name another target.", nameof(target));
        if ((File.Exists(target) || Directory.Exists(target)) && !options.Replace)
            throw new ArgumentException($"'{target}' exists. Name another target, or allow replacing it with --force.", nameof(target));
        if (IsSafetensors(target) && Directory.Exists(target))
            throw new ArgumentException($"'{target}' is a folder.", nameof(target));
    }

    private ConversionResult ToFile(string target)
    {
        var file = _reader.TensorsOf(_options.Key, EntryKind.Module);
        var folder = Path.GetDirectoryName(target)!;
        Directory.CreateDirectory(folder);
        var temporary = $"{Path.GetFileName(target)}.{Guid.NewGuid().ToString("N")[..12]}.tmp";
        try
        {
            Write(folder, temporary, file, Renamed(file));
            File.Move(Path.Combine(folder, temporary), target, overwrite: true);
        }
        finally
        {
            File.Delete(Path.Combine(folder, temporary));
        }

        if (_reader.BareFile is null)
            _leftOut.AddRange(_reader.Entries.Values.Where(entry => entry.File != file).Select(entry => $"'{entry.Key}' ({CheckpointWriter.NameOf(entry.Kind)}): a .safetensors file holds the tensors of one entry"));
        else
            _leftOut.AddRange(_reader.Entries.Values.Where(entry => entry.Kind == EntryKind.Value).Select(entry => $"'{entry.Key}' (value): a .safetensors file holds tensors"));
        return Result;
    }

    private ConversionResult ToFolder(string target)
    {
        var entries = _reader.BareFile is { } bare
            ? new List<StoredEntry>([new(_options.Key ?? DefaultKey, EntryKind.Module, bare, default), .. _reader.Entries.Values.Where(entry => entry.Kind == EntryKind.Value)])
            : _reader.Entries.Values.Where(entry => _options.Key is null || entry.Key == _options.Key).ToList();
        if (entries.Count == 0)
            _reader.TensorsOf(_options.Key, EntryKind.Module); // says what there is
        new CheckpointPlace(target).Write(folder => WriteFolder(folder, entries));
        return Result;
    }

    private void WriteFolder(string folder, List<StoredEntry> entries)
    {
        var kept = entries.FindAll(IsKept);
        var saved = kept.ConvertAll(entry => new SavedEntry(entry.Key, entry.Kind, [], SavedEntry.PlainMetadata, entry.Value));
        var names = CheckpointWriter.FileNames(saved);
        var files = new List<ManifestFile>();
        foreach (var entry in kept.Where(entry => entry.Kind is EntryKind.Module or EntryKind.Optimizer))
            files.Add(Write(folder, names[entry.Key], entry.File!, entry.Kind == EntryKind.Module ? Renamed(entry.File!) : Unchanged(entry.File!)));
        if (kept.Find(entry => entry.Kind == EntryKind.Tensor) is { } first)
            files.Add(Write(folder, CheckpointWriter.TensorsFileName, first.File!, kept.Where(entry => entry.Kind == EntryKind.Tensor).ToDictionary(entry => entry.Key, entry => entry.Key)));
        files.Add(HashedFile.Write(folder, CheckpointWriter.StateFileName, CheckpointWriter.StateJson(saved, names)));
        HashedFile.Write(folder, CheckpointManifest.FileName, CheckpointManifest.Write(files));
    }

    private bool IsKept(StoredEntry entry)
    {
        var reason = entry.Kind == EntryKind.Nested ? "tensors inside of dictionaries and lists have no place in a folder"
            : entry is PyTorch.TorchEntry ? "the file does not tell the type of optimizer; Fabric.Load loads it straight from the file of PyTorch"
            : null;
        if (reason is not null)
            _leftOut.Add($"'{entry.Key}' ({CheckpointWriter.NameOf(entry.Kind)}): {reason}");
        return reason is null;
    }

    private static Dictionary<string, string> Unchanged(TensorFile file) => file.Tensors.Keys.ToDictionary(name => name);

    /// <summary>New name → name in the file.</summary>
    private Dictionary<string, string> Renamed(TensorFile file)
    {
        if (_options.StripPrefix is { Length: > 0 } strip && !file.Tensors.Keys.Any(name => name.StartsWith(strip, StringComparison.Ordinal)))
            throw new ArgumentException($"--strip-prefix {strip}: none of the {file.Tensors.Count} names begins with it, the first is '{file.Tensors.Keys.FirstOrDefault()}'.");
        var renamed = new Dictionary<string, string>();
        foreach (var name in file.Tensors.Keys)
        {
            var rest = _options.StripPrefix is { } prefix && name.StartsWith(prefix, StringComparison.Ordinal) ? name[prefix.Length..] : name;
            if (!renamed.TryAdd(_options.Prefix + rest, name))
                throw new ArgumentException($"'{name}' and '{renamed[_options.Prefix + rest]}' would both be called '{_options.Prefix + rest}'. Leave out --strip-prefix.");
        }

        return renamed;
    }

    private ManifestFile Write(string folder, string name, TensorFile file, Dictionary<string, string> names)
    {
        var tensors = names.Select(entry => (Name: entry.Key, Tensor: file.Tensors[entry.Value])).ToList();
        foreach (var (newName, tensor) in tensors)
            if (SafetensorsType.NameOf(tensor.Type) is null || newName == SafetensorsHeader.MetadataName)
                throw new CheckpointException($"'{file.Path}': the tensor '{newName}' of {tensor.Type} cannot be in a .safetensors file, which holds {SafetensorsType.Names}.");
        var bytes = tensors.Sum(tensor => (decimal)tensor.Tensor.Length);
        if (File.Exists(_reader.Path) && bytes > (decimal)new FileInfo(_reader.Path).Length * MaxGrowth + (MaxGrowth << 20))
            throw new CheckpointException($"'{file.Path}': its tensors share memory so much that they would take {bytes} bytes. Save a .clone() of them in Python.");
        _tensors += tensors.Count;
        _bytes += (long)bytes;
        return SafetensorsWriter.Write(folder, name, tensors.ConvertAll(tensor => (tensor.Name, tensor.Tensor.Type, tensor.Tensor.Shape)), Metadata(file), (index, destination) => file.CopyTo(tensors[index].Tensor.Name, destination));
    }

    private static IReadOnlyDictionary<string, string> Metadata(TensorFile file) => file.Metadata.Count > 0 ? file.Metadata : SavedEntry.PlainMetadata;
}
