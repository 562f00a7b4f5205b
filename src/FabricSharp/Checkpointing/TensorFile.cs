using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>Named tensors in an open file. What describes them needs no libtorch; reading them into tensors does.</summary>
internal abstract class TensorFile : IDisposable
{
    /// <summary>For messages.</summary>
    public abstract string Path { get; }

    public abstract IReadOnlyDictionary<string, StoredTensor> Tensors { get; }

    /// <summary>Texts that came with the tensors.</summary>
    public virtual IReadOnlyDictionary<string, string> Metadata => new Dictionary<string, string>();

    /// <summary>Overwrites a tensor of the same type and shape in place.</summary>
    public abstract void Read(string name, Tensor target);

    /// <summary>Writes the elements in row-major order. Needs no libtorch.</summary>
    public abstract void CopyTo(string name, HashedFile destination);

    /// <summary>Equal for names that mean the same elements; null where each name has its own.</summary>
    public virtual object? PlaceOf(string name) => null;

    /// <summary>A new tensor.</summary>
    public virtual Tensor Read(string name, Device? device = null)
    {
        var tensor = empty(Tensors[name].Shape, Tensors[name].Type, device);
        Read(name, tensor);
        return tensor;
    }

    /// <summary>Every tensor, new.</summary>
    public Dictionary<string, Tensor> ReadAll() => Tensors.Keys.ToDictionary(name => name, name => Read(name));

    public virtual void Dispose()
    {
    }
}
