using static TorchSharp.torch;

namespace FabricSharp.Data;

/// <summary>Makes batches that lie on a given device.</summary>
internal static class BatchPlacement
{
    /// <summary>
    /// Runs <paramref name="collate"/> and copies the tensors that lie elsewhere. The copies belong to the dispose scope around this call, as
    /// everything that the batch is made of; originals that were made here and have a copy are disposed at once: nobody else knows them.
    /// </summary>
    public static S Make<S>(Func<S> collate, Device device)
    {
        using var scope = NewDisposeScope();
        var copies = new Dictionary<Tensor, Tensor>(ReferenceEqualityComparer.Instance); // a tensor that occurs twice is copied once
        var batch = TensorTree.Map(collate(), tensor => LiesOn(tensor, device) ? tensor : Copied(tensor));
        foreach (var original in copies.Keys.Where(scope.Contains))
            original.Dispose();
        scope.MoveToOuter(scope.DisposablesView);
        return batch;

        Tensor Copied(Tensor tensor)
        {
            if (!copies.TryGetValue(tensor, out var copy))
                copies.Add(tensor, copy = tensor.to(device));
            return copy;
        }
    }

    public static bool LiesOn(Tensor tensor, Device device) =>
        tensor.device_type == device.type && (device.index < 0 || tensor.device_index == device.index);
}
