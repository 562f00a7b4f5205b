using System.Collections;
using System.Globalization;
using static TorchSharp.torch;

namespace FabricSharp.Loggers;

/// <summary>What a run was started with, as a flat list of plain values.</summary>
internal static class Hyperparameters
{
    /// <summary>Values are <see cref="bool"/>, <see cref="long"/>, <see cref="double"/> or <see cref="string"/>; what is none of them becomes its text.</summary>
    public static IEnumerable<KeyValuePair<string, object>> Flatten(IEnumerable<KeyValuePair<string, object?>> parameters) =>
        parameters.SelectMany(parameter => Flatten(parameter.Key, parameter.Value));

    public static string Text(object? value) => value switch
    {
        null => "null",
        IFormattable formattable => formattable.ToString(null, CultureInfo.InvariantCulture),
        IEnumerable items and not string => $"[{string.Join(", ", items.Cast<object?>().Select(Text))}]",
        _ => value.ToString() ?? "",
    };

    private static IEnumerable<KeyValuePair<string, object>> Flatten(string name, object? value)
    {
        if (value is not IDictionary dictionary)
            return [KeyValuePair.Create(name, Plain(value))];
        return dictionary.Keys.Cast<object>().SelectMany(key => Flatten($"{name}/{Text(key)}", dictionary[key]));
    }

    private static object Plain(object? value) => value switch
    {
        bool or string => value,
        sbyte or byte or short or ushort or int or uint or long => Convert.ToInt64(value, CultureInfo.InvariantCulture),
        Tensor { NumberOfElements: 1 } tensor => MetricValue.Item(tensor),
        Tensor tensor => $"tensor of shape [{string.Join(", ", tensor.shape)}]",
        Enum => value.ToString()!,
        _ => MetricValue.TryNumber(value, out var number) ? number : Text(value),
    };
}
