using System.Text;

namespace FabricSharp.Checkpointing;

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
