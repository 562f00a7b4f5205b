using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>
/// Loading in two parts: making the plan checks the files and everything that they shall go into and changes nothing; <see cref="Apply"/> loads.
/// </summary>
internal sealed class LoadPlan : IDisposable
{
    private readonly CheckpointReader _reader;
    private readonly List<Action> _actions = [];
    private readonly HashSet<string> _used = [];

    private LoadPlan(CheckpointReader reader) => _reader = reader;

    /// <summary>For <c>Load</c>: entries into the objects and values of <paramref name="state"/>.</summary>
    public static LoadPlan ForState(string path, Dictionary<string, object?>? state, bool strict) => Make(path, plan =>
    {
        foreach (var (key, target) in state ?? [])
            plan.Add(key, target, state!, strict);
    });

    /// <summary>For <c>LoadRaw</c>: the only module or optimizer of a checkpoint, or a bare file.</summary>
    public static LoadPlan ForOne(string path, object target, bool strict) => Make(path, plan =>
        plan._actions.Add(SavedEntry.Plain(target) is optim.Optimizer optimizer
            ? OptimizerState.PlanLoad(optimizer, plan.OnlyFileOf(EntryKind.Optimizer))
            : ModuleState.PlanLoad((nn.Module)SavedEntry.Plain(target)!, plan.OnlyFileOf(EntryKind.Module), strict)));

    /// <summary>Loads, and returns what nothing was loaded from.</summary>
    public IReadOnlyDictionary<string, object?> Apply()
    {
        _actions.ForEach(action => action());
        return _reader.Entries.Values.Where(entry => !_used.Contains(entry.Key)).ToDictionary(entry => entry.Key, entry => entry.Materialise());
    }

    /// <summary>Loads what was asked for only.</summary>
    public void ApplyOnly() => _actions.ForEach(action => action());

    public void Dispose() => _reader.Dispose();

    private static LoadPlan Make(string path, Action<LoadPlan> fill)
    {
        var plan = new LoadPlan(CheckpointReader.Open(path));
        try
        {
            fill(plan);
            return plan;
        }
        catch
        {
            plan.Dispose();
            throw;
        }
    }

    private void Add(string key, object? target, Dictionary<string, object?> state, bool strict)
    {
        if (_reader.Entries.TryGetValue(key, out var entry))
        {
            _used.Add(key);
            _actions.Add(Plan(entry, SavedEntry.Plain(target), state, strict));
        }
        else if (strict)
        {
            throw new CheckpointException($"The requested state contains a key '{key}' that does not exist in the loaded checkpoint '{_reader.Path}', which has: {Keys(_reader.Entries.Keys)}. To disable strict loading, set `strict: false`.");
        }
    }

    private Action Plan(StoredEntry entry, object? target, Dictionary<string, object?> state, bool strict)
    {
        switch (target)
        {
            case nn.Module module:
                return ModuleState.PlanLoad(module, FileOf(entry, EntryKind.Module, "module"), strict);
            case optim.Optimizer optimizer:
                return OptimizerState.PlanLoad(optimizer, FileOf(entry, EntryKind.Optimizer, "optimizer"));
            case Tensor tensor:
                return PlanTensor(entry.Key, FileOf(entry, EntryKind.Tensor, "tensor"), tensor);
            default:
                var value = PlainValue.Load(_reader.Path, entry, target);
                return () => state[entry.Key] = value;
        }
    }

    private SafetensorsFile FileOf(StoredEntry entry, EntryKind kind, string name) => entry.Kind == kind
        ? entry.File!
        : throw new CheckpointException($"'{_reader.Path}' holds a {CheckpointWriter.NameOf(entry.Kind)} as '{entry.Key}', but state[\"{entry.Key}\"] is a {name}.");

    private static Action PlanTensor(string key, SafetensorsFile file, Tensor tensor)
    {
        if (ModuleState.Difference(key, file.Tensors[key], tensor).FirstOrDefault() is { } difference)
            throw new CheckpointException($"'{file.Path}' does not fit: {difference}. Nothing was changed.");
        return () => file.Read(key, tensor);
    }

    private SafetensorsFile OnlyFileOf(EntryKind kind)
    {
        if (_reader.BareFile is { } bare)
            return bare;
        var entries = _reader.Entries.Values.Where(entry => entry.Kind == kind).ToList();
        if (entries.Count != 1)
            throw new CheckpointException($"'{_reader.Path}' holds {entries.Count} entries of the kind {CheckpointWriter.NameOf(kind)} ({Keys(entries.Select(entry => entry.Key))}), LoadRaw needs exactly one. Use Load with the key, or LoadRaw with the path of a .safetensors file.");
        return entries[0].File!;
    }

    private static string Keys(IEnumerable<string> keys) => string.Join(", ", keys.Select(key => $"'{key}'")) is { Length: > 0 } text ? text : "nothing";
}
