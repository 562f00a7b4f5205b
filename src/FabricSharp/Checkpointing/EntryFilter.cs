using System.Collections;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>A module of which only some tensors are saved.</summary>
internal sealed record FilteredModule(IReadOnlyList<(string Name, Tensor Tensor)> Tensors);

/// <summary>Leaves out what a predicate of the user's does not want to be saved.</summary>
internal static class EntryFilter
{
    /// <exception cref="ArgumentException">A name is not in <paramref name="state"/>, or a predicate is missing.</exception>
    public static void Check(IReadOnlyDictionary<string, object?> state, IReadOnlyDictionary<string, Func<string, object, bool>>? filter)
    {
        foreach (var (key, predicate) in filter ?? new Dictionary<string, Func<string, object, bool>>())
            if (!state.ContainsKey(key))
                throw new ArgumentException($"The filter has the key '{key}', but `state` has only: {string.Join(", ", state.Keys.Select(name => $"'{name}'"))}.", nameof(filter));
            else if (predicate is null)
                throw new ArgumentException($"Expected `filter` to hold functions, but filter[\"{key}\"] is null. Write (name, value) => …, which returns whether to save.", nameof(filter));
    }

    /// <summary>The value, or what is to be saved of it.</summary>
    public static object? Apply(string key, object? value, IReadOnlyDictionary<string, Func<string, object, bool>>? filter)
    {
        if (filter is null || !filter.TryGetValue(key, out var wanted))
            return value;
        return SavedEntry.Plain(value) switch
        {
            nn.Module module => new FilteredModule([.. ModuleState.TensorsOf(module).Where(tensor => wanted(tensor.Name, tensor.Tensor))]),
            IDictionary dictionary => Wanted(dictionary, wanted),
            var other => throw new ArgumentException($"filter[\"{key}\"]: a {other?.GetType().Name ?? "null"} has no named parts that could be left out; only modules and dictionaries have.", nameof(filter)),
        };
    }

    private static Dictionary<string, object?> Wanted(IDictionary dictionary, Func<string, object, bool> wanted)
    {
        var items = new Dictionary<string, object?>();
        foreach (DictionaryEntry item in dictionary)
            if (wanted($"{item.Key}", item.Value!))
                items.Add($"{item.Key}", item.Value);
        return items;
    }
}
