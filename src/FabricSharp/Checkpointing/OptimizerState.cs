using System.Text.Json;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>An optimizer's options and the state of each of its parameters.</summary>
internal static class OptimizerState
{
    public static SavedEntry Save(string key, optim.Optimizer optimizer)
    {
        var parts = new OptimizerParts(optimizer);
        var (states, tensors) = optimizer is IShardedOptimizer sharded ? sharded.ConsolidatedStates() : SaveStates(parts.States);
        var groups = parts.Groups.Select(group => new OptimizerDescription.Group(SaveOptions(group.Options), LayoutsOf(group))).ToList();
        var description = JsonSerializer.Serialize(new OptimizerDescription(parts.TypeName, groups, states), OptimizerDescription.Json);
        return new SavedEntry(key, EntryKind.Optimizer, tensors, new Dictionary<string, string>(SavedEntry.PlainMetadata) { [OptimizerDescription.MetadataName] = description });
    }

    /// <summary>The fields of each state, tensors under the names that they have in the list; nothing where there is no state.</summary>
    public static (IReadOnlyList<IReadOnlyDictionary<string, JsonElement>> Fields, IReadOnlyList<(string Name, Tensor Tensor)> Tensors) SaveStates(
        IReadOnlyList<TorchSharp.Modules.OptimizerState?> states)
    {
        var tensors = new List<(string, Tensor)>();
        return ([.. states.Index().Select(state => state.Item is null ? [] : Save(state.Item, $"state.{state.Index}", tensors))], tensors);
    }

    /// <summary>The part that is not tensors, as JSON.</summary>
    public static JsonElement Describe(TensorFile file) => JsonSerializer.SerializeToElement(OptimizerDescription.Of(file), OptimizerDescription.Json);

    /// <summary>Checks that <paramref name="file"/> fits.</summary>
    /// <returns>Brings options and state into the optimizer; tensors that exist keep their identity.</returns>
    /// <exception cref="CheckpointException">It is of another type of optimizer, of other parameters, or corrupt.</exception>
    public static Action PlanLoad(optim.Optimizer optimizer, TensorFile file)
    {
        var parts = new OptimizerParts(optimizer);
        var description = OptimizerDescription.Of(file);
        RequireSameParameters(parts, description, file.Path);
        try
        {
            var actions = parts.Groups.Zip(description.Groups).SelectMany(pair => PlanOptions(pair.First.Options, pair.Second.Options))
                .Concat(parts.States.Index().Where(state => state.Item is not null)
                    .SelectMany(state => PlanState(state.Item!, parts.Parameters[state.Index], description.States[state.Index], file))).ToList();
            return () =>
            {
                (optimizer as IShardedOptimizer)?.ForgetConsolidated();
                actions.ForEach(action => action());
            };
        }
        catch (JsonException e)
        {
            throw new CheckpointException($"'{file.Path}' does not fit this {parts.TypeName}: {e.Message}. Nothing was changed.", e);
        }
    }

    private static Dictionary<string, JsonElement> SaveOptions(OptimizerOptions options) =>
        OptimizerFields.Of(options).ToDictionary(OptimizerFields.NameOf, field => OptimizerFields.Save(field, options));

    private static Dictionary<string, JsonElement> Save(TorchSharp.Modules.OptimizerState state, string prefix, List<(string, Tensor)> tensors)
    {
        var saved = new Dictionary<string, JsonElement>();
        foreach (var field in OptimizerFields.Of(state))
        {
            var name = OptimizerFields.NameOf(field);
            if (!OptimizerFields.IsTensor(field))
                saved.Add(name, OptimizerFields.Save(field, state));
            else if (field.GetValue(state) is Tensor tensor)
                tensors.Add(Named(saved, name, $"{prefix}.{name}", tensor));
            else
                saved.Add(name, JsonSerializer.SerializeToElement<string?>(null));
        }

        return saved;
    }

    private static (string, Tensor) Named(Dictionary<string, JsonElement> saved, string field, string name, Tensor tensor)
    {
        saved.Add(field, JsonSerializer.SerializeToElement(name));
        return (name, tensor);
    }

    private static void RequireSameParameters(OptimizerParts parts, OptimizerDescription description, string path)
    {
        if (description.Type != parts.TypeName)
            throw new CheckpointException($"'{path}' holds the state of an optimizer {description.Type}, which cannot be loaded into an {parts.TypeName}.");
        var (there, here) = (description.Groups.Select(group => group.Parameters).ToList(), parts.Groups.Select(LayoutsOf).ToList());
        if (there.Count != here.Count || there.Zip(here).Any(pair => !pair.First.SequenceEqual(pair.Second)))
            throw new CheckpointException($"'{path}' holds the state of an optimizer of other parameters.\n  In the file: {TextOf(there)}\n  Here: {TextOf(here)}\nNothing was changed. Make the optimizer from the same parameters in the same order.");
        if (description.States.Count != parts.States.Count)
            throw new CheckpointException($"'{path}' is corrupt: it has {description.States.Count} states of {parts.States.Count} parameters.");
    }

    private static List<string> LayoutsOf(ParamGroup group) => [.. group.Parameters.Select(parameter => StoredTensor.LayoutOf(parameter))];

    private static string TextOf(IEnumerable<IReadOnlyList<string>> groups) => string.Join("; ", groups.Index().Select(group => $"group {group.Index}: {string.Join(' ', group.Item)}"));

    private static IEnumerable<Action> PlanOptions(OptimizerOptions options, IReadOnlyDictionary<string, JsonElement> stored)
    {
        foreach (var field in OptimizerFields.Of(options))
        {
            var value = OptimizerFields.Load(field, stored);
            yield return () => field.SetValue(options, value);
        }
    }

    private static IEnumerable<Action> PlanState(TorchSharp.Modules.OptimizerState state, Parameter parameter, IReadOnlyDictionary<string, JsonElement> stored, TensorFile file)
    {
        foreach (var field in OptimizerFields.Of(state))
        {
            var value = OptimizerFields.Load(field, stored);
            if (!OptimizerFields.IsTensor(field))
                yield return () => field.SetValue(state, value);
            else
                yield return PlanTensor((string?)value, (Tensor?)field.GetValue(state), parameter, file, tensor => field.SetValue(state, tensor));
        }
    }

    private static Action PlanTensor(string? name, Tensor? current, Parameter parameter, TensorFile file, Action<Tensor?> set)
    {
        if (name is null)
            return () =>
            {
                set(null);
                current?.Dispose();
            };
        if (!file.Tensors.TryGetValue(name, out var stored))
            throw new JsonException($"the tensor '{name}' is missing");
        if (ModuleState.Difference(name, stored, current ?? parameter).FirstOrDefault() is { } difference)
            throw new JsonException(difference);
        if (current is null)
            return () => set(file.Read(name, parameter.device).DetachFromDisposeScope()); // the state outlives the caller's scope
        return () => file.Read(name, current);
    }
}
