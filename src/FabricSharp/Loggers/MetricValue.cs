using System.Collections;
using System.Globalization;
using static TorchSharp.torch;

namespace FabricSharp.Loggers;

/// <summary>What can be logged: numbers, truth values, tensors of one element.</summary>
internal static class MetricValue
{
    /// <exception cref="ArgumentException">The value cannot become a number; nothing is read from a device to find that out.</exception>
    public static void Check(string name, object? value)
    {
        if (value is Tensor { NumberOfElements: not 1 } tensor)
            throw new ArgumentException(
                $"The metric `{name}` is a tensor of shape [{string.Join(", ", tensor.shape)}]: it does not contain a single element, thus it cannot be converted to a scalar. Log a number made from it, such as its mean.", name);
        if (value is Tensor one ? one.is_complex() : !TryNumber(value, out _))
            throw new ArgumentException(
                $"The metric `{name}` is {(value is null ? "null" : $"a {(value as Tensor)?.dtype.ToString() ?? value.GetType().ToString()}: '{value}'")}. Log numbers, one-element tensors, or a dictionary of them.", name);
    }

    /// <summary>The number; for a tensor on a device this waits for the device.</summary>
    public static double ToNumber(object? value) => value is Tensor tensor ? Item(tensor) : TryNumber(value, out var number) ? number : double.NaN;

    /// <summary>The value of a tensor of one element.</summary>
    public static double Item(Tensor tensor)
    {
        using var gradientsOff = no_grad();
        using var number = tensor.to(ScalarType.Float64, CPU, copy: true);
        return number.item<double>();
    }

    public static bool TryNumber(object? value, out double number)
    {
        number = value switch
        {
            Half half => (double)half,
            bool or sbyte or byte or short or ushort or int or uint or long or ulong or float or double or decimal => Convert.ToDouble(value, CultureInfo.InvariantCulture),
            _ => double.NaN,
        };
        return value is Half or (IConvertible and not string and not char and not Enum and not DateTime and not DBNull);
    }

    /// <summary>The entries of a dictionary with texts as keys; null when <paramref name="value"/> is none.</summary>
    public static IReadOnlyList<KeyValuePair<string, object?>>? AsGroup(object? value) => value is not IDictionary dictionary
        ? null
        : [.. dictionary.Keys.Cast<object>().Select(key => KeyValuePair.Create(Hyperparameters.Text(key), dictionary[key]))];
}
