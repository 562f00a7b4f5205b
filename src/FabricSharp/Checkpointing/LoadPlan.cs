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
    private readonly List<string> _warnings = [];
    private readonly RankOf _rank;

    private LoadPlan(CheckpointReader reader, RankOf rank) => (_reader, _rank) = (reader, rank);

    /// <summary>What will not be as it was saved.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>For one module: the names that only one side has.</summary>
    public IncompatibleKeys? Incompatible { get; private set; }

    /// <summary>For <c>Load</c>: entries into the objects and values of <paramref name="state"/>.</summary>
    public static LoadPlan ForState(string path, Dictionary<string, object?>? state, bool strict, RankOf rank) => Make(path, rank, plan =>
    {
        var problems = new List<CheckpointException>();
        foreach (var (key, target) in state ?? [])
            try
            {
                plan.Add(key, target, state!, strict);
            }
            catch (CheckpointException e)
            {
                problems.Add(e); // all are named at once
            }

        if (problems.Count == 1)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(problems[0]);
        if (problems.Count > 1)
            throw new CheckpointException(string.Join("\n", problems.Select(problem => problem.Message)), problems[0]);
    });

    /// <summary>For <c>LoadRaw</c>: the only module or optimizer of a checkpoint, or a bare file.</summary>
    public static LoadPlan ForOne(string path, object target, bool strict, string? key = null) => Make(path, RankOf.One, plan =>
    {
        if (SavedEntry.Plain(target) is optim.Optimizer optimizer)
        {
            plan._actions.Add(OptimizerState.PlanLoad(optimizer, plan.OnlyFileOf(EntryKind.Optimizer, key)));
            return;
        }

        var (module, file) = ((nn.Module)SavedEntry.Plain(target)!, plan.OnlyFileOf(EntryKind.Module, key));
        plan._actions.Add(ModuleState.PlanLoad(module, file, strict));
        plan.Incompatible = ModuleState.Compare(module, file);
    });

    /// <summary>Loads, and returns what nothing was loaded from.</summary>
    public IReadOnlyDictionary<string, object?> Apply()
    {
        _actions.ForEach(action => action());
        return _reader.Entries.Values.Where(entry => !_used.Contains(entry.Key)).ToDictionary(entry => entry.Key, entry => entry.Materialise());
    }

    /// <summary>Loads what was asked for only.</summary>
    public void ApplyOnly() => _actions.ForEach(action => action());

    public void Dispose() => _reader.Dispose();

    private static LoadPlan Make(string path, RankOf rank, Action<LoadPlan> fill)
    {
        var plan = new LoadPlan(CheckpointReader.Open(path), rank);
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
            case { } when TrainingState.KindOf(target) is { } kind:
                return entry.Kind == kind ? TrainingState.PlanLoad(entry, target, _rank, $"'{_reader.Path}': state[\"{entry.Key}\"]", _warnings.Add) : throw OfOtherKind(entry, CheckpointWriter.NameOf(kind));
            default:
                var value = PlainValue.Load(_reader.Path, entry, target);
                return () => state[entry.Key] = value;
        }
    }

    private SafetensorsFile FileOf(StoredEntry entry, EntryKind kind, string name) => entry.Kind == kind
        ? entry.File!
        : throw OfOtherKind(entry, name);

    private CheckpointException OfOtherKind(StoredEntry entry, string name) =>
        new($"'{_reader.Path}' holds a {CheckpointWriter.NameOf(entry.Kind)} as '{entry.Key}', but state[\"{entry.Key}\"] is a {name}.");

    private static Action PlanTensor(string key, SafetensorsFile file, Tensor tensor)
    {
        if (ModuleState.Difference(key, file.Tensors[key], tensor).FirstOrDefault() is { } difference)
            throw new CheckpointException($"'{file.Path}' does not fit: {difference}. Nothing was changed.");
        return () => file.Read(key, tensor);
    }

    private SafetensorsFile OnlyFileOf(EntryKind kind, string? key)
    {
        if (key is not null && !_reader.Entries.ContainsKey(key))
            throw new CheckpointException($"'{_reader.Path}' has no entry '{key}', but: {Keys(_reader.Entries.Keys)}.");
        if (_reader.BareFile is { } bare && key is null)
            return bare;
        var entries = _reader.Entries.Values.Where(entry => entry.Kind == kind && (key is null || entry.Key == key)).ToList();
        if (entries.Count != 1)
            throw new CheckpointException($"'{_reader.Path}' holds {entries.Count} entries of the kind {CheckpointWriter.NameOf(kind)} ({Keys(entries.Select(entry => entry.Key))}), LoadRaw needs exactly one. Use Load with the key, or LoadRaw with the path of a .safetensors file.");
        return entries[0].File!;
    }

    private static string Keys(IEnumerable<string> keys) => string.Join(", ", keys.Select(key => $"'{key}'")) is { Length: > 0 } text ? text : "nothing";
}
