using System.Text;
using FabricSharp.Checkpointing.PyTorch;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>Looks at checkpoints without loading them.</summary>
public static class Checkpoint
{
    /// <summary>Compares the names, shapes and element types of a module with those of a checkpoint. Changes nothing. Local.</summary>
    /// <param name="path">
    /// A folder that <c>Fabric.Save</c> made, a <c>.safetensors</c> file, or a file of PyTorch or Lightning (<c>.pt</c>, <c>.pth</c>, <c>.ckpt</c>).
    /// </param>
    /// <param name="module">As it is, or as <c>Setup</c> gave it back.</param>
    /// <param name="key">The entry that holds the module, such as <c>state_dict</c>. <value>Default null: the only one that is a module's.</value></param>
    /// <returns>What differs, after names were matched as <c>Fabric.LoadRaw</c> matches them.</returns>
    /// <exception cref="CheckpointException">There is no such checkpoint or entry, or it is corrupt.</exception>
    public static ModuleComparison Compare(string path, nn.Module module, string? key = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        ArgumentNullException.ThrowIfNull(module);
        using var reader = CheckpointReader.Open(path, checkSums: false);
        var own = (nn.Module)SavedEntry.Plain(module)!;
        var file = reader.TensorsOf(key, EntryKind.Module);
        return Compare(reader.IsFolder ? file : PythonNames.Fit(file, own), own);
    }

    private static ModuleComparison Compare(TensorFile file, nn.Module module)
    {
        var groups = ModuleState.Groups(module);
        var known = groups.SelectMany(group => group.Names).ToHashSet();
        var missing = groups.Where(group => !group.Names.Exists(file.Tensors.ContainsKey)).Select(group => group.Names[0]).ToList();
        var unexpected = file.Tensors.Keys.Where(name => !known.Contains(name)).ToList();
        var shapes = new List<TensorMismatch>();
        var types = new List<TensorMismatch>();
        foreach (var (names, tensor) in groups)
            if (names.Find(file.Tensors.ContainsKey) is { } name)
                Compare(file.Tensors[name], tensor, shapes, types);
        var renamed = (file as RenamedTensors)?.Names.Where(name => name.Key != name.Value).ToDictionary(name => name.Value, name => name.Key) ?? [];
        return new ModuleComparison(missing, unexpected, shapes, types, renamed);
    }

    private static void Compare(StoredTensor stored, Tensor tensor, List<TensorMismatch> shapes, List<TensorMismatch> types)
    {
        var mismatch = new TensorMismatch(stored.Name, stored.Layout, StoredTensor.LayoutOf(tensor));
        if (!stored.Shape.AsSpan().SequenceEqual(tensor.shape))
            shapes.Add(mismatch);
        if (stored.Type != tensor.dtype)
            types.Add(mismatch);
    }
}

/// <summary>What of a checkpoint does not match a module. <see cref="object.ToString"/> gives one line for each difference.</summary>
/// <param name="Missing">Names of the module that the checkpoint lacks.</param>
/// <param name="Unexpected">Names of the checkpoint that the module lacks.</param>
/// <param name="Shapes">Tensors of different shapes.</param>
/// <param name="Types">Tensors of different element types.</param>
/// <param name="Renamed">Names of the checkpoint that go by another name in the module: name there → name here.</param>
public sealed record ModuleComparison(
    IReadOnlyList<string> Missing,
    IReadOnlyList<string> Unexpected,
    IReadOnlyList<TensorMismatch> Shapes,
    IReadOnlyList<TensorMismatch> Types,
    IReadOnlyDictionary<string, string> Renamed)
{
    /// <summary>Whether loading with <c>strict: true</c> would succeed.</summary>
    public bool Fits => Missing.Count + Unexpected.Count + Shapes.Count + Types.Count == 0;

    /// <inheritdoc/>
    public override string ToString()
    {
        if (Fits)
            return "Everything fits.";
        var text = new StringBuilder();
        text.AppendJoin("", Missing.Select(name => $"missing: {name}\n"));
        text.AppendJoin("", Unexpected.Select(name => $"unexpected: {name}\n"));
        text.AppendJoin("", Shapes.Union(Types).Select(tensor => $"different: {tensor.Name} is {tensor.Stored} in the checkpoint, {tensor.Expected} in the module\n"));
        return text.ToString().TrimEnd();
    }
}

/// <summary>A tensor that a checkpoint has in another layout than a module.</summary>
/// <param name="Name">In the module.</param>
/// <param name="Stored">Element type and shape in the checkpoint, such as <c>F32[3,2]</c>.</param>
/// <param name="Expected">Element type and shape in the module.</param>
public sealed record TensorMismatch(string Name, string Stored, string Expected);
