using System.Globalization;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>The keys of Python's dictionaries as texts.</summary>
internal static class PickledNames
{
    private const int MaxTuple = 16;
    private const int MaxInside = 256;

    /// <summary>The pairs by name, in their order; of equal keys the last one counts.</summary>
    /// <exception cref="FormatException">Different keys have the same text, or one has none.</exception>
    public static IReadOnlyDictionary<string, object?> Of(PickleDict dict)
    {
        var named = new Dictionary<string, object?>(StringComparer.Ordinal);
        var kinds = new Dictionary<string, Type?>(StringComparer.Ordinal);
        foreach (var (key, value) in dict.Items)
        {
            var name = TextOf(key);
            if (kinds.TryGetValue(name, out var kind) && kind != key?.GetType())
                throw new FormatException($"a dictionary has two different keys {name}");
            kinds[name] = key?.GetType();
            named[name] = value;
        }

        return named;
    }

    public static object? Find(PickleDict dict, string name) => dict.Items.FindLast(item => item.Key is string key && key == name).Value;

    private static string TextOf(object? key, bool inside = false) => key switch
    {
        string text => !inside || text.Length <= MaxInside ? text : throw new FormatException("a dictionary has a key with a long text in it"),
        null => "None",
        bool truth => truth ? "True" : "False",
        IFormattable number and (long or double) => number.ToString(null, CultureInfo.InvariantCulture),
        PickleText { Text.Length: <= MaxInside } text => text.Text,
        PickleTuple { Items.Length: <= MaxTuple } tuple when !inside => $"({string.Join(", ", tuple.Items.Select(item => TextOf(item, inside: true)))})",
        _ => throw new FormatException("a dictionary has keys that are neither texts nor numbers"),
    };
}
