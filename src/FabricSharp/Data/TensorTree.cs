using System.Collections;
using System.Reflection;
using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace FabricSharp.Data;

/// <summary>
/// Replaces the tensors of nested arrays, lists, dictionaries, tuples and records. What holds no replaced tensor comes back as the same
/// object, what does as a new one of the same type; the originals are never written to, because a data set may keep them. Other types, and
/// collections that cannot be made anew, are left alone.
/// </summary>
internal static class TensorTree
{
    public static S Map<S>(S tree, Func<Tensor, Tensor> function) => (S)MapNode(tree, new Leaves(function, null))!;

    /// <summary>Replaces numbers, too: an array of a built-in numeric type (of one element for a single number) by one of the same type and length.</summary>
    public static S Map<S>(S tree, Func<Tensor, Tensor> function, Func<Array, Array> numbers) => (S)MapNode(tree, new Leaves(function, numbers))!;

    /// <summary>Whether <paramref name="type"/> is a number for <see cref="Map{S}(S, Func{Tensor, Tensor}, Func{Array, Array})"/>.</summary>
    public static bool IsNumber(Type type) => type.IsPrimitive && type != typeof(bool) && type != typeof(char) && type != typeof(nint) && type != typeof(nuint);

    private static object? MapNode(object? node, Leaves function) => node switch
    {
        null or string => node,
        Tensor tensor => function.Tensor(tensor),
        ValueType number when IsNumber(number.GetType()) => MapNumber(number, function),
        IConvertible => node,
        Array array => MapArray(array, function),
        IDictionary dictionary => MapDictionary(dictionary, function),
        IList list => MapList(list, function),
        ITuple tuple => MapTuple(tuple, function),
        _ => MapRecord(node, function),
    };

    private static object MapNumber(object number, Leaves function)
    {
        if (function.Numbers is not { } numbers)
            return number;
        var one = Array.CreateInstance(number.GetType(), 1);
        one.SetValue(number, 0);
        return numbers(one).GetValue(0)!;
    }

    private static object MapArray(Array array, Leaves function)
    {
        var element = array.GetType().GetElementType()!;
        if (array.Rank == 1 && IsNumber(element))
            return function.Numbers?.Invoke(array) ?? array;
        if (array.Rank != 1 || element.IsPrimitive)
            return array;
        Array? copy = null;
        for (var i = 0; i < array.Length; i++)
            if (Replaced(array.GetValue(i), function, out var item))
                (copy ??= (Array)array.Clone()).SetValue(item, i);
        return copy ?? array;
    }

    private static object MapList(IList list, Leaves function)
    {
        var changed = false;
        var items = new object?[list.Count];
        for (var i = 0; i < items.Length; i++)
            changed |= Replaced(list[i], function, out items[i]);
        if (!changed || Empty(list, list.IsReadOnly || list.IsFixedSize) is not IList copy)
            return list;
        foreach (var item in items)
            copy.Add(item);
        return copy;
    }

    private static object MapDictionary(IDictionary dictionary, Leaves function)
    {
        var changed = false;
        var entries = new List<(object Key, object? Value)>(dictionary.Count);
        foreach (DictionaryEntry entry in dictionary)
        {
            changed |= Replaced(entry.Value, function, out var value);
            entries.Add((entry.Key, value));
        }

        if (!changed || Empty(dictionary, dictionary.IsReadOnly || dictionary.IsFixedSize) is not IDictionary copy)
            return dictionary;
        foreach (var (key, value) in entries)
            copy.Add(key, value);
        return copy;
    }

    private static object MapTuple(ITuple tuple, Leaves function)
    {
        var type = tuple.GetType();
        if (type.Namespace != nameof(System) || !type.IsGenericType)
            return tuple;
        var changed = false;
        var items = new object?[type.GenericTypeArguments.Length];
        for (var i = 0; i < items.Length; i++)
            changed |= Replaced(i < 7 ? tuple[i] : Rest(tuple), function, out items[i]);
        return changed ? Activator.CreateInstance(type, items)! : tuple;
    }

    /// <summary>A tuple of more than seven items keeps the others in a tuple of its own.</summary>
    private static object? Rest(ITuple tuple) =>
        tuple.GetType().GetField("Rest")?.GetValue(tuple) ?? tuple.GetType().GetProperty("Rest")?.GetValue(tuple);

    private static object MapRecord(object node, Leaves function)
    {
        var clone = node.GetType().GetMethod("<Clone>$", Type.EmptyTypes); // what the compiler gives records, and them only
        if (clone is null)
            return node;
        object? copy = null;
        foreach (var property in node.GetType().GetProperties().Where(IsValue))
            if (Replaced(property.GetValue(node), function, out var value))
                property.SetValue(copy ??= clone.Invoke(node, null), value);
        return copy ?? node;
    }

    private static bool IsValue(PropertyInfo property) => property is { CanRead: true, CanWrite: true } && property.GetIndexParameters().Length == 0;

    private static bool Replaced(object? node, Leaves function, out object? result)
    {
        result = MapNode(node, function);
        return !ReferenceEquals(result, node);
    }

    /// <summary>An empty collection of the same type, with the same comparer; null where there is no way to make one and fill it.</summary>
    private static object? Empty(object collection, bool isFixed)
    {
        var type = collection.GetType();
        if (isFixed)
            return null;
        if (type.IsGenericType && type.GetGenericTypeDefinition() is var d && (d == typeof(Dictionary<,>) || d == typeof(SortedDictionary<,>)))
            return Activator.CreateInstance(type, type.GetProperty("Comparer")!.GetValue(collection));
        return type.GetConstructor(Type.EmptyTypes)?.Invoke(null);
    }

    /// <summary>What is done with what a tree holds in the end.</summary>
    /// <param name="Tensor">Replaces a tensor.</param>
    /// <param name="Numbers">Replaces numbers; null leaves them.</param>
    private sealed record Leaves(Func<Tensor, Tensor> Tensor, Func<Array, Array>? Numbers);
}
