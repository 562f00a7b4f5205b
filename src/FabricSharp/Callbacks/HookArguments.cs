using System.Collections;

namespace FabricSharp.Callbacks;

/// <summary>Arguments by name, upper and lower case being the same.</summary>
internal static class HookArguments
{
    public static IReadOnlyDictionary<string, object?> From(object? arguments)
    {
        var named = new Dictionary<string, object?>(StringComparer.OrdinalIgnoreCase);
        if (arguments is IEnumerable<KeyValuePair<string, object?>> pairs)
            foreach (var (name, value) in pairs)
                named[name] = value;
        else if (arguments is IDictionary dictionary)
            foreach (DictionaryEntry entry in dictionary)
                named[entry.Key.ToString()!] = entry.Value;
        else if (arguments is not null)
            foreach (var property in arguments.GetType().GetProperties().Where(property => property.GetIndexParameters().Length == 0))
                named[property.Name] = property.GetValue(arguments);
        return named;
    }
}
