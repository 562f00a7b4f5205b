using Microsoft.Win32.SafeHandles;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>An open <c>.safetensors</c> file with a checked header.</summary>
internal sealed class SafetensorsFile : TensorFile
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

    public override string Path { get; }

    public override IReadOnlyDictionary<string, StoredTensor> Tensors => _header.Tensors;

    public override IReadOnlyDictionary<string, string> Metadata => _header.Metadata;

    public override void Read(string name, Tensor target) => TensorBytes.Read(Tensors[name], _handle, Path, target);

    public override void CopyTo(string name, HashedFile destination) => TensorBytes.Copy(Tensors[name], _handle, Path, destination);

    public override void Dispose() => _handle.Dispose();
}
