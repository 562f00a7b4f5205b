using System.Reflection;

namespace FabricSharp.Callbacks;

/// <summary>A member of a callback that is called by its name.</summary>
internal static class Hook
{
    private const BindingFlags Where = BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.FlattenHierarchy;

    /// <summary>Calls it if it is there. False: something of that name is there that cannot be called.</summary>
    public static bool TryCall(object callback, string name, IReadOnlyDictionary<string, object?> arguments)
    {
        var members = callback.GetType().GetMember(name, Where);
        var methods = members.OfType<MethodInfo>().Where(method => !method.ContainsGenericParameters).ToList();
        if (methods.Count > 0)
        {
            var method = Best(methods, arguments);
            Call(callback, method, method.GetParameters(), arguments);
            return true;
        }

        return members.Length == 0 || TryCallDelegate(callback, members[0], arguments);
    }

    private static bool TryCallDelegate(object callback, MemberInfo member, IReadOnlyDictionary<string, object?> arguments)
    {
        var (type, value) = member switch
        {
            PropertyInfo { CanRead: true } property => (property.PropertyType, property.GetValue(callback)),
            FieldInfo field => (field.FieldType, field.GetValue(callback)),
            _ => (typeof(void), null),
        };
        if (value is Delegate function)
            Call(function, function.GetType().GetMethod("Invoke")!, ParametersOf(function), arguments);
        return value is Delegate || typeof(Delegate).IsAssignableFrom(type); // a null delegate is a hook that nobody wants to hear
    }

    /// <summary>The names are those of the function, not of its type; what the delegate holds already stands in front.</summary>
    private static ParameterInfo[] ParametersOf(Delegate function) =>
        function.Method.GetParameters()[^function.GetType().GetMethod("Invoke")!.GetParameters().Length..];

    /// <summary>Of several methods of one name the one that can be called and takes most.</summary>
    private static MethodInfo Best(List<MethodInfo> methods, IReadOnlyDictionary<string, object?> arguments) => methods
        .OrderByDescending(method => method.GetParameters().All(parameter => IsGiven(parameter, arguments)))
        .ThenByDescending(method => method.GetParameters().Count(parameter => arguments.ContainsKey(parameter.Name!)))
        .First();

    private static bool IsGiven(ParameterInfo parameter, IReadOnlyDictionary<string, object?> arguments) =>
        arguments.ContainsKey(parameter.Name!) || parameter.HasDefaultValue || IsForAll(parameter);

    private static bool IsForAll(ParameterInfo parameter) => parameter.ParameterType == typeof(IReadOnlyDictionary<string, object?>);

    private static void Call(object target, MethodInfo method, ParameterInfo[] parameters, IReadOnlyDictionary<string, object?> arguments)
    {
        var values = parameters.Select(parameter => ValueOf(parameter, arguments)).ToArray();
        var result = method.Invoke(method.IsStatic ? null : target, BindingFlags.DoNotWrapExceptions, null, values, null);
        if (result is Task task)
            task.GetAwaiter().GetResult(); // else its failure would be lost
    }

    private static object? ValueOf(ParameterInfo parameter, IReadOnlyDictionary<string, object?> arguments)
    {
        if (arguments.TryGetValue(parameter.Name!, out var value))
            return Fits(parameter.ParameterType, value) ? value : throw new ArgumentException(
                $"The parameter `{parameter.Name}` of the callback `{NameOf(parameter.Member)}` is a {parameter.ParameterType.Name}, but `Call` gave {(value is null ? "null" : $"a {value.GetType().Name}")}.", parameter.Name);
        if (parameter.HasDefaultValue)
            return parameter.DefaultValue;
        return IsForAll(parameter) ? arguments : throw new ArgumentException(
            $"The callback `{NameOf(parameter.Member)}` has a parameter `{parameter.Name}` that `Call` did not give. Given: {string.Join(", ", arguments.Keys)}. Give it, or give the parameter a default.", parameter.Name);
    }

    private static bool Fits(Type type, object? value) => value is null ? !type.IsValueType || Nullable.GetUnderlyingType(type) is not null : Widens(type, value);

    private static bool Widens(Type type, object value) =>
        type.IsInstanceOfType(value) || (type == typeof(long) && value is int) || (type == typeof(double) && value is float or int or long);

    private static string NameOf(MemberInfo method) => $"{method.DeclaringType?.Name}.{method.Name}";
}
