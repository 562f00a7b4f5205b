namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>
/// What a file of PyTorch holds, as the entries of a checkpoint. A dictionary has an entry for each key: a state dict is a module's, the dictionary
/// of an optimizer's <c>state_dict()</c> an optimizer's, a list of those gives <c>KEY.0</c>, <c>KEY.1</c>, …; plain values are JSON.
/// </summary>
internal sealed class TorchEntries
{
    /// <summary>A few bytes can name the same dictionary again and again.</summary>
    private const int MaxNodes = 2_000_000;

    private const long MaxCharacters = 128 << 20;

    private readonly TorchFile _file;
    private readonly List<StoredEntry> _entries = [];
    private readonly Dictionary<string, TensorReference> _loose = [];
    private readonly Dictionary<object, bool> _hasTensors = new(ReferenceEqualityComparer.Instance);
    private readonly PickledJson _json = new();
    private long _nodes;
    private long _characters;

    private TorchEntries(TorchFile file) => _file = file;

    /// <returns>The entries, and where the file is one state dict the tensors of it.</returns>
    /// <exception cref="CheckpointException">They are more than is read, or make no sense.</exception>
    public static (IReadOnlyList<StoredEntry> Entries, TensorFile? Bare) Of(TorchFile file)
    {
        var entries = new TorchEntries(file);
        try
        {
            if (file.Root is PickleDict dict && !IsOptimizer(dict))
                foreach (var (name, value) in PickledNames.Of(dict))
                    entries.Add(name, value);
            else
                entries.Add(file.Root is PickleDict ? "optimizer" : file.Root is TensorReference ? "tensor" : "value", file.Root);
        }
        catch (FormatException e)
        {
            throw new CheckpointException($"'{file.Path}' cannot be read as a file of PyTorch: {TorchFile.Readable(e.Message)}.", e);
        }

        return entries.Finish();
    }

    private (IReadOnlyList<StoredEntry> Entries, TensorFile? Bare) Finish()
    {
        var loose = new TorchTensors(_file, _loose);
        var entries = _entries.ConvertAll(entry => entry.Kind == EntryKind.Tensor ? entry with { File = loose } : entry);
        if (entries.GroupBy(entry => entry.Key).FirstOrDefault(same => same.Count() > 1) is { } twice)
            throw new CheckpointException($"'{_file.Path}' cannot be read as a file of PyTorch: it has two entries '{TorchFile.Readable(twice.Key)}'.");
        return (entries, _loose.Count > 0 && entries.TrueForAll(entry => entry.Kind is EntryKind.Tensor or EntryKind.Value) ? loose : null);
    }

    private void Add(string key, object? value)
    {
        switch (value)
        {
            case TensorReference tensor:
                _loose[key] = tensor;
                _entries.Add(new StoredEntry(key, EntryKind.Tensor, null, default));
                break;
            case PickleDict { Items.Count: > 0 } dict when dict.Items.TrueForAll(item => item.Value is TensorReference):
                Count(dict.Items.Count, 0);
                _entries.Add(new StoredEntry(key, EntryKind.Module, new TorchTensors(_file, PickledNames.Of(dict).ToDictionary(item => item.Key, item => (TensorReference)item.Value!)), default));
                break;
            case PickleDict dict when IsOptimizer(dict):
                _entries.Add(Mixed(key, EntryKind.Optimizer, dict));
                break;
            case PickleList { Items.Count: > 0 } list when list.Items.TrueForAll(item => item is PickleDict dict && IsOptimizer(dict)):
                foreach (var (index, item) in list.Items.Index())
                    _entries.Add(Mixed($"{key}.{index}", EntryKind.Optimizer, item!));
                break;
            default:
                _entries.Add(HasTensors(value, 0) ? Mixed(key, EntryKind.Nested, value!) : new StoredEntry(key, EntryKind.Value, null, _json.Convert(value)));
                break;
        }
    }

    private static bool IsOptimizer(PickleDict dict) => dict.Items.Count is >= 2 and <= 8 && PickledNames.Find(dict, "state") is PickleDict && PickledNames.Find(dict, "param_groups") is PickleList;

    private TorchEntry Mixed(string key, EntryKind kind, object value)
    {
        var tensors = new Dictionary<string, TensorReference>();
        var tree = TreeOf(value, "", 0, tensors)!;
        return new TorchEntry(key, kind, new TorchTensors(_file, tensors), _file, tree, value as PickleDict);
    }

    private object? TreeOf(object? value, string name, int depth, Dictionary<string, TensorReference> tensors)
    {
        Count(value is PickleDict { Items.Count: var items } ? items + 1 : 1, name.Length);
        if (value is TensorReference tensor)
        {
            tensors[name] = tensor;
            return new NamedTensor(name, tensor);
        }

        if (!HasTensors(value, depth))
            return _json.Convert(value);
        return value is PickleDict dict
            ? PickledNames.Of(dict).ToDictionary(item => item.Key, item => TreeOf(item.Value, Below(name, item.Key), depth + 1, tensors))
            : Items(value).Select((item, i) => TreeOf(item, Below(name, $"{i}"), depth + 1, tensors)).ToList();
    }

    private void Count(int nodes, int characters)
    {
        _nodes += nodes;
        _characters += characters;
        if (_nodes > MaxNodes || _characters > MaxCharacters)
            throw new FormatException($"its values with tensors are more than {MaxNodes}, or their names have more than {MaxCharacters} characters");
    }

    private static string Below(string name, string key) => name.Length > 4096
        ? throw new FormatException("its values have keys of more than 4096 characters together")
        : name.Length == 0 ? key : $"{name}.{key}";

    private bool HasTensors(object? value, int depth)
    {
        if (depth > PlainValue.MaxDepth)
            throw new FormatException($"its values are nested deeper than {PlainValue.MaxDepth} levels, or contain themselves");
        if (value is TensorReference)
            return true;
        if (value is not (PickleDict or PickleList or PickleSet or PickleTuple))
            return false;
        if (_hasTensors.TryGetValue(value, out var known))
            return known;
        _hasTensors[value] = false; // what contains itself ends at the limit of the depth later
        var has = value is PickleDict dict ? dict.Items.Exists(item => HasTensors(item.Value, depth + 1)) : Items(value).Any(item => HasTensors(item, depth + 1));
        return _hasTensors[value] = has;
    }

    private static IReadOnlyList<object?> Items(object? value) => value switch
    {
        PickleList list => list.Items,
        PickleSet set => set.Items,
        PickleTuple tuple => tuple.Items,
        _ => [],
    };
}
