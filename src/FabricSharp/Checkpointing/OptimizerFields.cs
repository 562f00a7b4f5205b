using System.Reflection;
using System.Text.Json;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>
/// The fields in which TorchSharp's optimizers keep their options and states. (Their own stream format leaves nothing for other readers, and
/// reading it inside a dispose scope loses the tensors.)
/// </summary>
internal static class OptimizerFields
{
    private static readonly Type[] Scalars = [typeof(double), typeof(float), typeof(long), typeof(int), typeof(bool)];

    public static IReadOnlyList<FieldInfo> Of(OptimizerOptions options) => Of(options.GetType(), typeof(object));

    public static IReadOnlyList<FieldInfo> Of(TorchSharp.Modules.OptimizerState state) => Of(state.GetType(), typeof(TorchSharp.Modules.OptimizerState));

    public static bool IsTensor(FieldInfo field) => field.FieldType == typeof(Tensor);

    /// <summary>The name of the field, or of the property that it stands behind.</summary>
    public static string NameOf(FieldInfo field) => field.Name[0] == '<' ? field.Name[1..field.Name.IndexOf('>')] : field.Name;

    public static JsonElement Save(FieldInfo field, object owner) => JsonSerializer.SerializeToElement(field.GetValue(owner), field.FieldType, PlainValue.Json);

    /// <summary>The value of <paramref name="field"/>, checked to be there and of its type.</summary>
    /// <exception cref="JsonException">It is not.</exception>
    public static object? Load(FieldInfo field, IReadOnlyDictionary<string, JsonElement> stored)
    {
        if (!stored.TryGetValue(NameOf(field), out var element))
            throw new JsonException($"'{NameOf(field)}' is missing");
        return element.Deserialize(IsTensor(field) ? typeof(string) : field.FieldType, PlainValue.Json);
    }

    private static List<FieldInfo> Of(Type type, Type root)
    {
        var fields = new List<FieldInfo>();
        for (var level = type; level != root && level is not null; level = level.BaseType)
            fields.AddRange(level.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly));
        if (fields.Find(field => !IsTensor(field) && !Scalars.Contains(Nullable.GetUnderlyingType(field.FieldType) ?? field.FieldType)) is { } unknown)
            throw new ArgumentException($"The optimizer's {type} has a field '{unknown.Name}' of {unknown.FieldType}, which is neither a tensor nor a number: the optimizer cannot be saved or loaded.", "state");
        return fields;
    }
}
