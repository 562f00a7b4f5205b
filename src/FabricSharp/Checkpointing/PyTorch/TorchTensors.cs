using static TorchSharp.torch;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>Some tensors of a <see cref="TorchFile"/> under names.</summary>
/// <param name="file">Stays open for as long as these are read; not disposed with them.</param>
/// <param name="tensors">By name.</param>
internal sealed class TorchTensors(TorchFile file, IReadOnlyDictionary<string, TensorReference> tensors) : TensorFile
{
    public override string Path => file.Path;

    public override IReadOnlyDictionary<string, StoredTensor> Tensors { get; } = tensors.ToDictionary(tensor => tensor.Key, tensor => TorchFile.Stored(tensor.Key, tensor.Value));

    public override object PlaceOf(string name) => (tensors[name].Storage.Key, tensors[name].Offset, string.Join(',', tensors[name].Shape), string.Join(',', tensors[name].Strides));

    public override void Read(string name, Tensor target) => file.Read(name, tensors[name], target);

    public override Tensor Read(string name, Device? device = null) => device is null || device.type == TorchSharp.DeviceType.CPU ? file.Read(name, tensors[name]) : base.Read(name, device);

    public override void CopyTo(string name, HashedFile destination) => file.CopyTo(name, tensors[name], destination);
}
