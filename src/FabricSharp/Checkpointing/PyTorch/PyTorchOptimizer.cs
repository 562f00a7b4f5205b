using System.Reflection;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>
/// The <c>state_dict()</c> of PyTorch's SGD, Adam and AdamW into TorchSharp's. It tells parameters by their number alone: the optimizer must be made
/// from the same parameters in the same order. Parameters that never had a gradient have no state there and get a fresh one.
/// </summary>
internal sealed class PyTorchOptimizer
{
    /// <summary>In a parameter group or a state: they are looked through again and again.</summary>
    private const int MaxOptions = 256;

    private static readonly string[] Supported = ["SGD", "Adam", "AdamW"];

    private readonly OptimizerParts _parts;
    private readonly TorchEntry _entry;

    private PyTorchOptimizer(optim.Optimizer optimizer, TorchEntry entry)
    {
        _parts = new OptimizerParts(optimizer);
        _entry = entry;
    }

    private string Where => $"'{_entry.Source.Path}', '{_entry.Key}'";

    /// <summary>Checks that the state fits.</summary>
    /// <returns>Brings options and state into the optimizer; tensors that exist keep their identity.</returns>
    /// <exception cref="CheckpointException">It is of another type of optimizer, of other parameters, or corrupt.</exception>
    public static Action PlanLoad(optim.Optimizer optimizer, TorchEntry entry)
    {
        var loading = new PyTorchOptimizer(optimizer, entry);
        try
        {
            var actions = loading.Plan();
            return () => actions.ForEach(action => action());
        }
        catch (FormatException e)
        {
            throw new CheckpointException($"{loading.Where} does not fit this {loading._parts.TypeName}: {e.Message}. Nothing was changed.", e);
        }
    }

    private List<Action> Plan()
    {
        if (!Supported.Contains(_parts.TypeName))
            throw new FormatException($"of PyTorch's optimizers the states of {string.Join(", ", Supported)} are read");
        var groups = ((PickleList)PickledNames.Find(_entry.Pickled!, "param_groups")!).Items.ConvertAll(group => group is PickleDict { Items.Count: <= MaxOptions } dict ? dict : throw new FormatException("a parameter group is no dictionary of options"));
        if (groups.Count != _parts.Groups.Count)
            throw new FormatException($"it has {groups.Count} parameter groups instead of {_parts.Groups.Count}");
        var numbers = groups.Zip(_parts.Groups, (group, own) => NumbersOf(group, own.Parameters.Count())).SelectMany(n => n).ToList();
        var states = StatesByNumber();
        if (states.Keys.Except(numbers).Any())
            throw new FormatException("it has states of parameters that are in no group");
        var actions = groups.Zip(_parts.Groups).SelectMany(pair => PlanOptions(pair.First, pair.Second.Options)).ToList();
        foreach (var (index, number) in numbers.Index())
            if (_parts.States[index] is { } own) // else it is another rank's
                actions.AddRange(PlanState(own, _parts.Parameters[index], number, states.GetValueOrDefault(number)));
        return actions;
    }

    private static List<long> NumbersOf(PickleDict group, int expected)
    {
        if (PickledNames.Find(group, "params") is not PickleList parameters || parameters.Items.Exists(item => item is not long))
            throw new FormatException("a parameter group has no list of parameters");
        return parameters.Items.Count == expected
            ? parameters.Items.ConvertAll(item => (long)item!)
            : throw new FormatException($"a parameter group has {parameters.Items.Count} parameters instead of {expected}. Make the optimizer from the same parameters in the same order");
    }

    private Dictionary<long, PickleDict> StatesByNumber()
    {
        var states = new Dictionary<long, PickleDict>();
        var stored = ((PickleDict)PickledNames.Find(_entry.Pickled!, "state")!).Items;
        if (stored.Count > _parts.Parameters.Count || stored.Exists(state => state.Value is PickleDict { Items.Count: > MaxOptions }))
            throw new FormatException("it has more states than there are parameters, or more values in one than an optimizer has");
        foreach (var (key, value) in stored)
            states[key is long number ? number : throw new FormatException("its states do not go by number")] = value as PickleDict ?? throw new FormatException("a state is no dictionary");
        return states;
    }

    private IEnumerable<Action> PlanOptions(PickleDict stored, OptimizerOptions options)
    {
        if (PickledNames.Find(stored, "decoupled_weight_decay") is bool decoupled && decoupled != (_parts.TypeName == "AdamW") && _parts.TypeName != "SGD")
            throw new FormatException($"it is of {(decoupled ? "AdamW" : "Adam")}");
        foreach (var field in OptimizerFields.Of(options))
        {
            var value = OptionOf(stored, OptimizerFields.NameOf(field), Nullable.GetUnderlyingType(field.FieldType) ?? field.FieldType);
            yield return () => field.SetValue(options, value);
        }
    }

    private static object OptionOf(PickleDict stored, string name, Type type)
    {
        var value = name switch
        {
            "LearningRate" => PickledNames.Find(stored, "lr"),
            "InitialLearningRate" => PickledNames.Find(stored, "initial_lr") ?? PickledNames.Find(stored, "lr"),
            "beta1" => (PickledNames.Find(stored, "betas") as PickleTuple)?.Items.ElementAtOrDefault(0),
            "beta2" => (PickledNames.Find(stored, "betas") as PickleTuple)?.Items.ElementAtOrDefault(1),
            "maximize" => PickledNames.Find(stored, name) ?? false, // PyTorch before 1.11 has none
            _ => PickledNames.Find(stored, name),
        };
        return (type, value) switch
        {
            _ when type == typeof(bool) && value is bool => value,
            _ when type == typeof(double) && value is double => value,
            _ when type == typeof(double) && value is long number => (double)number,
            (_, null) => throw new FormatException($"its options have no '{name}': it is the state of another optimizer"),
            _ => throw new FormatException($"its option '{name}' is a {value.GetType().Name}, a {type.Name} is needed"),
        };
    }

    private IEnumerable<Action> PlanState(TorchSharp.Modules.OptimizerState state, Parameter parameter, long number, PickleDict? stored)
    {
        if (stored is not null && Array.Find(Known(_parts.TypeName), name => PickledNames.Find(stored, name) is not null) is null && stored.Items.Exists(item => item.Value is not null))
            throw new FormatException("it is the state of another optimizer");
        foreach (var field in OptimizerFields.Of(state))
        {
            var name = OptimizerFields.NameOf(field);
            var value = stored is null ? null : PickledNames.Find(stored, name);
            if (OptimizerFields.IsTensor(field))
                yield return PlanTensor(field, state, $"state.{number}.{name}", stored is not null, value, parameter);
            else
                yield return PlanStep(field, state, stored is null ? 0L : StepOf(value));
        }
    }

    private static string[] Known(string typeName) => typeName == "SGD" ? ["momentum_buffer"] : ["exp_avg"];

    private static Action PlanStep(FieldInfo field, object state, long step)
    {
        if (field.FieldType != typeof(long))
            throw new FormatException($"the field {field.Name} is not known");
        return () => field.SetValue(state, step);
    }

    private long StepOf(object? value) => value switch
    {
        long step and >= 0 => step,
        double step and >= 0 and <= long.MaxValue / 2 => (long)step,
        TensorReference { Shape.Length: 0 } tensor => StepOf(_entry.Source.ReadNumber(tensor)),
        _ => throw new FormatException("its number of steps is no number"),
    };

    private Action PlanTensor(FieldInfo field, object state, string name, bool hasState, object? value, Parameter parameter)
    {
        var current = (Tensor?)field.GetValue(state);
        if (value is null && hasState && name.EndsWith("exp_avg", StringComparison.Ordinal))
            throw new FormatException($"{name} is missing");
        if (value is null)
            return () => Clear(field, state, current, keepZeros: !hasState && current is not null && field.Name != "momentum_buffer");
        if (value is not TensorReference stored)
            throw new FormatException($"{name} is no tensor");
        if (ModuleState.Difference(name, TorchFile.Stored(name, stored), parameter).FirstOrDefault() is { } difference)
            throw new FormatException(difference);
        return () => Fill(field, state, name, stored, current, parameter);
    }

    private static void Clear(FieldInfo field, object state, Tensor? current, bool keepZeros)
    {
        using var gradientsOff = no_grad();
        if (keepZeros)
        {
            current!.zero_();
            return;
        }

        field.SetValue(state, null);
        current?.Dispose();
    }

    private void Fill(FieldInfo field, object state, string name, TensorReference stored, Tensor? current, Parameter parameter)
    {
        var target = current ?? empty(stored.Shape, stored.Element.Type, parameter.device).DetachFromDisposeScope(); // the state outlives the caller's scope
        _entry.Source.Read(name, stored, target);
        field.SetValue(state, target);
    }
}
