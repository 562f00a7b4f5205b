using static TorchSharp.torch;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>The tensors of a file under other names; those without one are left out.</summary>
/// <param name="file">Not disposed with these.</param>
/// <param name="names">New name → name in the file.</param>
internal sealed class RenamedTensors(TensorFile file, IReadOnlyDictionary<string, string> names) : TensorFile
{
    public override string Path => file.Path;

    public override IReadOnlyDictionary<string, StoredTensor> Tensors { get; } = names.ToDictionary(name => name.Key, name => file.Tensors[name.Value] with { Name = name.Key });

    /// <summary>New name → name in the file.</summary>
    public IReadOnlyDictionary<string, string> Names => names;

    public override IReadOnlyDictionary<string, string> Metadata => file.Metadata;

    public override object? PlaceOf(string name) => file.PlaceOf(names[name]);

    public override void Read(string name, Tensor target) => file.Read(names[name], target);

    public override Tensor Read(string name, Device? device = null) => file.Read(names[name], device);

    public override void CopyTo(string name, HashedFile destination) => file.CopyTo(names[name], destination);
}
