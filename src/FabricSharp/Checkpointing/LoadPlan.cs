using FabricSharp.Checkpointing.PyTorch;
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
            ? plan.PlanOptimizer(optimizer)
            : plan.PlanModule((nn.Module)SavedEntry.Plain(target)!, plan._reader.OnlyFileOf(EntryKind.Module), strict)));

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
            throw new CheckpointException($"The requested state contains a key '{key}' that does not exist in the loaded checkpoint '{_reader.Path}', which has: {CheckpointReader.Keys(_reader.Entries.Keys)}.{(_reader.BareFile is null ? "" : " It holds the values of one module: LoadRaw loads them.")} To disable strict loading, set `strict: false`.");
        }
    }

    private Action Plan(StoredEntry entry, object? target, Dictionary<string, object?> state, bool strict)
    {
        switch (target)
        {
            case nn.Module module:
                return PlanModule(module, FileOf(entry, EntryKind.Module, "module"), strict);
            case optim.Optimizer optimizer:
                var file = FileOf(entry, EntryKind.Optimizer, "optimizer");
                return entry is TorchEntry torch ? PyTorchOptimizer.PlanLoad(optimizer, torch) : OptimizerState.PlanLoad(optimizer, file);
            case Tensor tensor:
                return PlanTensor(entry.Key, FileOf(entry, EntryKind.Tensor, "tensor"), tensor);
            default:
                var value = PlainValue.Load(_reader.Path, entry, target);
                return () => state[entry.Key] = value;
        }
    }

    /// <summary>Names in a file may be those of Python; a folder has the module's own.</summary>
    private Action PlanModule(nn.Module module, TensorFile file, bool strict) => ModuleState.PlanLoad(module, _reader.IsFolder ? file : PythonNames.Fit(file, module), strict);

    private Action PlanOptimizer(optim.Optimizer optimizer) => _reader.Entries.Values.OfType<TorchEntry>().Where(entry => entry.Kind == EntryKind.Optimizer).ToList() is [var torch]
        ? PyTorchOptimizer.PlanLoad(optimizer, torch)
        : OptimizerState.PlanLoad(optimizer, _reader.OnlyFileOf(EntryKind.Optimizer));

    private TensorFile FileOf(StoredEntry entry, EntryKind kind, string name) => entry.Kind == kind
        ? entry.File!
        : throw new CheckpointException($"'{_reader.Path}' holds a {CheckpointWriter.NameOf(entry.Kind)} as '{entry.Key}', but state[\"{entry.Key}\"] is a {name}.");

    private static Action PlanTensor(string key, TensorFile file, Tensor tensor)
    {
        if (ModuleState.Difference(key, file.Tensors[key], tensor).FirstOrDefault() is { } difference)
            throw new CheckpointException($"'{file.Path}' does not fit: {difference}. Nothing was changed.");
        return () => file.Read(key, tensor);
    }
}
