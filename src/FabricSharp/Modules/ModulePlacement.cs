using FabricSharp.Interop.LibTorch;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Modules;

/// <summary>
/// Brings a module to a device and element type <i>in place</i>: parameter and buffer objects keep their identity. TorchSharp's own
/// <c>to()</c> replaces them, which kills optimizers made before it, unties tied weights and forgets non-persistent buffers.
/// </summary>
internal static class ModulePlacement
{
    /// <param name="module">The module to move.</param>
    /// <param name="device">Where to; null leaves every tensor on its device.</param>
    /// <param name="floatingType">The element type of floating-point tensors; null leaves it.</param>
    public static void Move(nn.Module module, Device? device, ScalarType? floatingType = null)
    {
        var tensors = module.named_parameters().Select(p => ((string, Tensor))(p.name, p.parameter)).Concat(ModuleTensors.Buffers(module)).ToList();
        var misplaced = tensors.Where(t => NeedsMove(t.Item2, device, floatingType)).ToList();
        if (misplaced.Count > 0 && !TensorData.IsSupported)
            throw new PlatformNotSupportedException(
                $"{misplaced[0].Item1} has to be brought to {device ?? misplaced[0].Item2.device}{(floatingType is null ? "" : $" and {floatingType}")}, which cannot be done in place here ({LibTorchLibrary.NotSupportedReason}). " +
                $"Call module.to(…) yourself before you make the optimizer and before Setup.");
        using var gradientsOff = no_grad();
        foreach (var (_, tensor) in misplaced)
            MoveInPlace(tensor, device ?? tensor.device, floatingType);
        if (device is not null && device.type != DeviceType.CPU)
            module.to(device); // nothing is left to move: lets modules with state of their own follow, and records the device
    }

    private static bool NeedsMove(Tensor tensor, Device? device, ScalarType? type) =>
        (device is not null && (tensor.device_type != device.type || (device.index >= 0 && tensor.device_index != device.index))) || (type is not null && tensor.is_floating_point() && tensor.dtype != type);

    private static void MoveInPlace(Tensor tensor, Device device, ScalarType? type)
    {
        using var scope = NewDisposeScope();
        var gradient = tensor.grad;
        if (gradient is not null)
            tensor.grad = null; // its type must follow the tensor's
        TensorData.Set(tensor, Converted(tensor, device, type));
        if (gradient is not null)
            tensor.grad = Converted(gradient, device, type);
    }

    private static Tensor Converted(Tensor tensor, Device device, ScalarType? type) =>
        tensor.detach().to(type is not null && tensor.is_floating_point() ? type.Value : tensor.dtype, device);
}
