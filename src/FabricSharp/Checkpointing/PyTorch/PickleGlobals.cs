using System.Numerics;
using System.Text;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>
/// The classes and functions that a checkpoint may name, those of torch's own <c>weights_only</c> reader, and what stands for them here.
/// </summary>
internal static class PickleGlobals
{
    private static readonly Dictionary<string, PickleGlobal> Known = All().ToDictionary(known => known.Name);

    /// <exception cref="FormatException">It is not known.</exception>
    public static PickleGlobal Find(string module, string name)
    {
        var full = $"{(module == "__builtin__" ? "builtins" : module)}.{name}";
        return Known.TryGetValue(full, out var known) ? known : throw new FormatException(RefusalOf(full));
    }

    /// <summary>For an instruction that is not read.</summary>
    public static string RefusalOf(char instruction) => instruction switch
    {
        'i' or 'o' or '\u0092' => "the pickle makes an object of a class in a way that no checkpoint needs. Nothing was executed",
        '\u0082' or '\u0083' or '\u0084' => "the pickle names a class by a registered number, which is not read. Nothing was executed",
        'I' or 'L' or 'F' or 'S' or 'V' or 'g' or 'p' or 'P' => "the pickle has protocol 0 or 1, which torch never wrote",
        '\u0097' or '\u0098' => "the pickle keeps data outside of itself",
        _ => $"the pickle has the unknown instruction 0x{(int)instruction:x2}: it is corrupt",
    };

    private static string RefusalOf(string name)
    {
        var reason = name switch
        {
            _ when name.Contains("sparse", StringComparison.Ordinal) || name.EndsWith("_get_layout", StringComparison.Ordinal) => "Sparse tensors are not read: save .to_dense() of them.",
            _ when name.Contains("qtensor", StringComparison.Ordinal) || name.StartsWith("torch.per_", StringComparison.Ordinal) || name.StartsWith("torch.Q", StringComparison.Ordinal) => "Quantised tensors are not read: save .dequantize() of them.",
            _ when name.StartsWith("torch.", StringComparison.Ordinal) && (name.EndsWith("Storage", StringComparison.Ordinal) || name.StartsWith("torch.float8", StringComparison.Ordinal) || name.StartsWith("torch.uint", StringComparison.Ordinal)) => "TorchSharp has no such elements: convert the tensors first.",
            _ when name.StartsWith("numpy.", StringComparison.Ordinal) => "Save torch.from_numpy(…) of arrays, and .item() of single numbers.",
            _ => "Only tensors and plain values are read.",
        };
        return $"its pickle asks for {Shortened(name)}, and nothing but the data of a checkpoint is taken from a pickle; nothing was executed. {reason} In Python, save what is needed alone: torch.save(model.state_dict(), path), or safetensors.torch.save_file(model.state_dict(), \"model.safetensors\")";
    }

    private static string Shortened(string name) => new([.. name.Take(120).Select(c => char.IsControl(c) ? '?' : c)]);

    private static IEnumerable<PickleGlobal> All()
    {
        yield return new("collections.OrderedDict", NewDict);
        yield return new("collections.Counter", NewDict);
        yield return new("collections.defaultdict", arguments => NewDict(arguments is [PickleGlobal or null, .. var rest] ? rest : arguments));
        yield return new("builtins.set", NewSet);
        yield return new("builtins.frozenset", NewSet);
        yield return new("builtins.bytes", Bytes);
        yield return new("builtins.bytearray", Bytes);
        yield return new("builtins.complex", arguments => arguments is [double real, double imaginary] ? new Complex(real, imaginary) : throw Wrong("complex"));
        yield return new("_codecs.encode", Bytes);
        foreach (var factory in new[] { "int", "float", "bool", "str", "list", "dict", "tuple" })
            yield return new($"builtins.{factory}"); // what a defaultdict makes of missing keys
        yield return new("torch.Size", arguments => arguments is [PickleTuple or PickleList] ? new PickleTuple([.. Items(arguments[0])]) : throw Wrong("torch.Size"));
        yield return new("torch.device", Device);
        yield return new("torch.Tensor");
        yield return new("torch.nn.parameter.Parameter", Parameter);
        foreach (var global in TensorGlobals())
            yield return global;
    }

    private static IEnumerable<PickleGlobal> TensorGlobals()
    {
        foreach (var element in TorchElement.All)
        {
            yield return new($"torch.{element.Name}", Element: element);
            yield return new($"torch.{element.Storage}", Element: element);
            yield return new($"torch.cuda.{element.Storage}", Element: element);
        }

        yield return new("torch.storage.UntypedStorage");
        yield return new("torch._utils._rebuild_tensor", arguments => Tensor(arguments, 4));
        yield return new("torch._utils._rebuild_tensor_v2", arguments => Tensor(arguments, 6));
        yield return new("torch._utils._rebuild_tensor_v3", arguments => Tensor(arguments, 7));
        yield return new("torch._utils._rebuild_parameter", Parameter);
        yield return new("torch._utils._rebuild_parameter_with_state", Parameter);
        yield return new("torch._tensor._rebuild_from_type_v2", RebuildFromType);
    }

    private static PickleDict NewDict(object?[] arguments)
    {
        var dict = new PickleDict();
        switch (arguments)
        {
            case []:
                return dict;
            case [PickleDict other]:
                dict.Items.AddRange(other.Items);
                return dict;
            case [PickleList pairs]:
                dict.Items.AddRange(pairs.Items.Select(pair => Items(pair) is [var key, var value] ? (key, value) : throw Wrong("dict")));
                return dict;
            default:
                throw Wrong("dict");
        }
    }

    private static PickleSet NewSet(object?[] arguments)
    {
        var set = new PickleSet();
        if (arguments is [{ } items])
            set.Items.AddRange(Items(items));
        return arguments.Length <= 1 ? set : throw Wrong("set");
    }

    /// <summary>Protocol 2 has no bytes: they come as Latin-1 text.</summary>
    private static byte[] Bytes(object?[] arguments) => arguments switch
    {
        [] => [],
        [byte[] bytes] => bytes,
        [string text, "latin1" or "latin-1"] when text.All(c => c <= 255) => Encoding.Latin1.GetBytes(text),
        _ => throw Wrong("bytes"),
    };

    private static PickleText Device(object?[] arguments) => arguments switch
    {
        [string type] => new(type),
        [string type, long index] => new($"{type}:{index}"),
        _ => throw Wrong("torch.device"),
    };

    private static TensorReference Tensor(object?[] arguments, int least)
    {
        if (arguments.Length < least || arguments.Length > Math.Max(least + 1, 4) || arguments is not [TorchStorage storage, long offset, PickleTuple shape, PickleTuple strides, ..])
            throw Wrong("a tensor");
        if (arguments.Length > least && arguments[^1] is not (null or PickleDict { Items.Count: 0 }))
            throw new FormatException("a tensor is a conjugated or negated look at its storage, which is not read. Save a .resolve_conj().resolve_neg() of it");
        var element = least < 7 ? null : (arguments[6] as PickleGlobal)?.Element ?? throw Wrong("a tensor");
        return TensorReference.Create(element, storage, offset, Numbers(shape), Numbers(strides));
    }

    private static TensorReference Parameter(object?[] arguments) => arguments is [TensorReference tensor, ..] ? tensor : throw Wrong("a parameter");

    /// <summary>A tensor with attributes, which are left out.</summary>
    private static object RebuildFromType(object?[] arguments) =>
        arguments is [PickleGlobal { Call: { } call } function, PickleGlobal { Name: "torch.Tensor" or "torch.nn.parameter.Parameter" }, PickleTuple inner, _] && function.Name.StartsWith("torch._utils._rebuild_", StringComparison.Ordinal)
            ? call(inner.Items)!
            : throw Wrong("a tensor");

    private static long[] Numbers(PickleTuple tuple) => tuple.Items.Length > TensorReference.MaxRank
        ? throw new FormatException($"a tensor has {tuple.Items.Length} dimensions")
        : [.. tuple.Items.Select(item => item is long number ? number : throw Wrong("a tensor"))];

    private static IReadOnlyList<object?> Items(object? value) => value switch
    {
        PickleList list => list.Items,
        PickleSet set => set.Items,
        PickleTuple tuple => tuple.Items,
        _ => throw Wrong("a collection"),
    };

    private static FormatException Wrong(string what) => new($"the pickle makes {what} of values that do not belong there: it is corrupt");
}
