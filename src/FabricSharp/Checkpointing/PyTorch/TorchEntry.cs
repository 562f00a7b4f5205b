using System.Text.Json;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>An entry that only files of PyTorch have: an optimizer's state, or tensors and values mixed.</summary>
/// <param name="Key">See <see cref="StoredEntry"/>.</param>
/// <param name="Kind"><see cref="EntryKind.Optimizer"/> or <see cref="EntryKind.Nested"/>.</param>
/// <param name="File">Its tensors by their place in it, such as <c>state.0.exp_avg</c>.</param>
/// <param name="Source">Where the tensors are.</param>
/// <param name="Tree">Dictionaries by name, lists, <see cref="NamedTensor"/> and <see cref="JsonElement"/>.</param>
/// <param name="Pickled">As it was read.</param>
internal sealed record TorchEntry(string Key, EntryKind Kind, TensorFile? File, TorchFile Source, object Tree, PickleDict? Pickled) : StoredEntry(Key, Kind, File, default)
{
    public override object? Materialise() => Materialise(Tree);

    private object? Materialise(object? node) => node switch
    {
        NamedTensor tensor => Source.Read(tensor.Name, tensor.Tensor),
        Dictionary<string, object?> dict => dict.ToDictionary(item => item.Key, item => Materialise(item.Value)),
        List<object?> list => list.ConvertAll(Materialise),
        _ => node,
    };
}

/// <summary>A tensor and where in the entry it stands, such as <c>state.0.exp_avg</c>.</summary>
internal sealed record NamedTensor(string Name, TensorReference Tensor);
