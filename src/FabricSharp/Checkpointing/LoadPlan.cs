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
            plan._actions.Add(plan.PlanOptimizer(optimizer));
            return;
        }

        var module = (nn.Module)SavedEntry.Plain(target)!;
        var file = plan.NamedFor(module, plan._reader.TensorsOf(key, EntryKind.Module));
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
            throw new CheckpointException($"The requested state contains a key '{key}' that does not exist in the loaded checkpoint '{_reader.Path}', which has: {CheckpointReader.Keys(_reader.Entries.Keys)}.{(_reader.BareFile is null ? "" : " It holds the values of one module: LoadRaw loads them.")} To disable strict loading, set `strict: false`.");
        }
    }

    private Action Plan(StoredEntry entry, object? target, Dictionary<string, object?> state, bool strict)
    {
        switch (target)
        {
            case nn.Module module:
                return ModuleState.PlanLoad(module, NamedFor(module, FileOf(entry, EntryKind.Module, "module")), strict);
            case optim.Optimizer optimizer:
                var file = FileOf(entry, EntryKind.Optimizer, "optimizer");
                return entry is TorchEntry torch ? PyTorchOptimizer.PlanLoad(optimizer, torch) : OptimizerState.PlanLoad(optimizer, file);
            case Tensor tensor:
                return PlanTensor(entry.Key, FileOf(entry, EntryKind.Tensor, "tensor"), tensor);
            case { } when TrainingState.KindOf(target) is { } kind:
                return entry.Kind == kind ? TrainingState.PlanLoad(entry, target, _rank, $"'{_reader.Path}': state[\"{entry.Key}\"]", _warnings.Add) : throw OfOtherKind(entry, CheckpointWriter.NameOf(kind));
            default:
                var value = PlainValue.Load(_reader.Path, entry, target);
                return () => state[entry.Key] = value;
        }
    }

    /// <summary>Names in a file may be those of Python; a folder has the module's own.</summary>
    private TensorFile NamedFor(nn.Module module, TensorFile file) => _reader.IsFolder ? file : PythonNames.Fit(file, module);

    private Action PlanOptimizer(optim.Optimizer optimizer) => _reader.Entries.Values.OfType<TorchEntry>().Where(entry => entry.Kind == EntryKind.Optimizer).ToList() is [var torch]
        ? PyTorchOptimizer.PlanLoad(optimizer, torch)
        : OptimizerState.PlanLoad(optimizer, _reader.OnlyFileOf(EntryKind.Optimizer));

    private TensorFile FileOf(StoredEntry entry, EntryKind kind, string name) => entry.Kind == kind
        ? entry.File!
        : throw OfOtherKind(entry, name);

    private CheckpointException OfOtherKind(StoredEntry entry, string name) =>
        new($"'{_reader.Path}' holds a {CheckpointWriter.NameOf(entry.Kind)} as '{entry.Key}', but state[\"{entry.Key}\"] is a {name}.");

    private static Action PlanTensor(string key, TensorFile file, Tensor tensor)
    {
        if (ModuleState.Difference(key, file.Tensors[key], tensor).FirstOrDefault() is { } difference)
            throw new CheckpointException($"'{file.Path}' does not fit: {difference}. Nothing was changed.");
        return () => file.Read(key, tensor);
    }
}
