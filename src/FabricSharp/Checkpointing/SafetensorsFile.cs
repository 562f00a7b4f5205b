using Microsoft.Win32.SafeHandles;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>An open <c>.safetensors</c> file with a checked header.</summary>
internal sealed class SafetensorsFile : IDisposable
{
    private readonly SafeFileHandle _handle;
    private readonly SafetensorsHeader _header;

    /// <param name="path">For messages.</param>
    /// <param name="handle">The open file; disposed with this object.</param>
    public SafetensorsFile(string path, SafeFileHandle handle)
    {
        Path = path;
        _handle = handle;
        _header = SafetensorsHeader.Read(handle, path);
    }

    public string Path { get; }

    public IReadOnlyDictionary<string, StoredTensor> Tensors => _header.Tensors;

    public IReadOnlyDictionary<string, string> Metadata => _header.Metadata;

    /// <summary>Overwrites a tensor of the same type and shape in place.</summary>
    public void Read(string name, Tensor target) => TensorBytes.Read(Tensors[name], _handle, Path, target);

    /// <summary>A new tensor.</summary>
    public Tensor Read(string name, Device? device = null)
    {
        var tensor = empty(Tensors[name].Shape, Tensors[name].Type, device);
        Read(name, tensor);
        return tensor;
    }

    /// <summary>Every tensor, new.</summary>
    public Dictionary<string, Tensor> ReadAll() => Tensors.Keys.ToDictionary(name => name, name => Read(name));

    public void Dispose() => _handle.Dispose();
}
