using System.Collections;
using System.Reflection;
using System.Runtime.CompilerServices;
using FabricSharp.Collectives;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// Finds every place of a model that holds a batch normalisation, and puts a <see cref="SyncBatchNorm"/> there. A module's forward pass uses its fields (Sequential
/// its list), while parameters are found through the registered sub-modules: both have to change. All places are checked before the first is written.
/// </summary>
internal sealed class BatchNormReplacement(ProcessGroup group)
{
    private const BindingFlags OwnFields = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

    private static readonly FieldInfo SubmodulesField =
        typeof(nn.Module).GetField("_internal_submodules", BindingFlags.Instance | BindingFlags.NonPublic)
        ?? throw new MissingFieldException("TorchSharp's Module has no field _internal_submodules: this version of TorchSharp is not supported.");

    private readonly HashSet<nn.Module> _visited = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<BatchNorm, SyncBatchNorm> _replacements = new(ReferenceEqualityComparer.Instance);
    private readonly List<Action> _writes = [];
    private readonly List<string> _problems = [];

    /// <returns>The module, or what replaces it.</returns>
    public nn.Module Apply(nn.Module module, Type type)
    {
        if (IsReplaceable(module))
            return type.IsAssignableFrom(typeof(SyncBatchNorm))
                ? Replacement((BatchNorm)module)
                : throw new ArgumentException($"The module is a {module.GetType().Name} itself, and its replacement is none: convert it as a Module<Tensor, Tensor>.", nameof(module));
        Visit(module, "");
        if (_problems.Count > 0)
            throw new ArgumentException($"Batch normalisations cannot be converted. Nothing was changed.\n  {string.Join("\n  ", _problems)}", nameof(module));
        _writes.ForEach(write => write());
        return module;
    }

    private static bool IsReplaceable(object? value) => value is BatchNorm1d or BatchNorm2d or BatchNorm3d;

    private SyncBatchNorm Replacement(BatchNorm original)
    {
        if (!_replacements.TryGetValue(original, out var replacement))
            _replacements.Add(original, replacement = new SyncBatchNorm(original, group));
        return replacement;
    }

    private void Visit(nn.Module module, string path)
    {
        if (!_visited.Add(module))
            return;
        var held = new HashSet<object>(ReferenceEqualityComparer.Instance);
        for (var level = module.GetType(); level is not null && level != typeof(nn.Module); level = level.BaseType)
            foreach (var field in level.GetFields(OwnFields))
                VisitField(module, field, held);
        foreach (var (name, child) in module.named_children().ToList())
        {
            var full = path.Length == 0 ? name : $"{path}.{name}";
            if (!IsReplaceable(child))
                Visit(child, full);
            else if (!held.Contains(child))
                _problems.Add($"'{full}' is a sub-module of {module.GetType().Name}, but no field, array, list or dictionary in one holds it: its forward pass cannot be redirected.");
        }

        VisitRegistration((OrderedDict<string, nn.Module>)SubmodulesField.GetValue(module)!);
    }

    private void VisitRegistration(OrderedDict<string, nn.Module> registered)
    {
        for (var i = 0; i < registered.Count; i++)
            if (registered[i] is (var name, BatchNorm child) && IsReplaceable(child))
                _writes.Add(() => registered[name] = Replacement(child));
    }

    private void VisitField(nn.Module module, FieldInfo field, HashSet<object> held)
    {
        var place = $"field '{NameOf(field)}' of {field.DeclaringType!.Name}";
        switch (field.GetValue(module))
        {
            case BatchNorm one when IsReplaceable(one):
                Add(one, field.FieldType, place, held, replacement => field.SetValue(module, replacement));
                break;
            case IDictionary dictionary:
                VisitDictionary(dictionary, place, held);
                break;
            case IList list:
                for (var i = 0; i < list.Count; i++)
                    VisitElement(list, i, place, held);
                break;
        }
    }

    private void VisitDictionary(IDictionary dictionary, string place, HashSet<object> held)
    {
        var slot = dictionary.GetType().GetGenericArguments() is [_, var type] ? type : typeof(object);
        foreach (DictionaryEntry entry in dictionary)
            if (entry.Value is BatchNorm one && IsReplaceable(one))
                Add(one, slot, $"{place}, key '{entry.Key}',", held, replacement => dictionary[entry.Key] = replacement);
    }

    private void VisitElement(IList list, int index, string place, HashSet<object> held)
    {
        var slot = list.GetType().GetElementType() ?? (list.GetType().GetGenericArguments() is [var type] ? type : typeof(object));
        var element = list[index];
        if (element is BatchNorm one && IsReplaceable(one))
            Add(one, slot, $"{place}, element {index},", held, replacement => list[index] = replacement);
        else if (element is ITuple tuple && element.GetType().IsValueType)
            VisitTuple(list, index, tuple, place, held);
    }

    /// <summary>ModuleDict keeps pairs of name and module in a list.</summary>
    private void VisitTuple(IList list, int index, ITuple tuple, string place, HashSet<object> held)
    {
        var types = tuple.GetType().GetGenericArguments();
        for (var i = 0; i < Math.Min(tuple.Length, types.Length); i++)
        {
            var item = i;
            if (tuple[item] is BatchNorm one && IsReplaceable(one))
                Add(one, types[item], $"{place}, element {index},", held, replacement =>
                {
                    var current = list[index]!;
                    current.GetType().GetField($"Item{item + 1}")!.SetValue(current, replacement);
                    list[index] = current;
                });
        }
    }

    private void Add(BatchNorm one, Type slot, string place, HashSet<object> held, Action<SyncBatchNorm> write)
    {
        held.Add(one);
        if (slot.IsAssignableFrom(typeof(SyncBatchNorm)))
            _writes.Add(() => write(Replacement(one)));
        else
            _problems.Add($"The {place} is declared as {slot.Name}, which a SyncBatchNorm is not. Declare it as Module<Tensor, Tensor>.");
    }

    private static string NameOf(FieldInfo field) => field.Name[0] == '<' ? field.Name[1..field.Name.IndexOf('>')] : field.Name;
}
