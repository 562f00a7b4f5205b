using FabricSharp.Collectives;
using FabricSharp.Interop.LibTorch;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>Divides gradients by a scale and finds out whether all are finite.</summary>
internal static class GradientScan
{
    /// <returns>Whether any rank of <paramref name="group"/> has a gradient, and whether one of them is infinite or NaN. The same on all ranks.</returns>
    /// <exception cref="InvalidOperationException">Some gradients are float16: dividing them would bring the underflow back. None is changed.</exception>
    public static (bool HasGradients, bool FoundNonFinite) Unscale(IReadOnlyList<Parameter> parameters, float scale, ProcessGroup? group)
    {
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        var gradients = parameters.Select(parameter => parameter.grad).OfType<Tensor>().ToList();
        if (gradients.Exists(gradient => gradient.dtype == ScalarType.Float16))
            throw new InvalidOperationException("Attempting to unscale FP16 gradients. A scaler is for float32 parameters whose forward pass is cast (precision: \"16-mixed\"); with float16 parameters (\"16-true\") there is none.");
        var found = gradients.Count > 0 && UnscaleAll(gradients, scale);
        return Combine(gradients.Count > 0, found, parameters.Count > 0 ? parameters[0].device : CPU, group);
    }

    private static bool UnscaleAll(List<Tensor> gradients, float scale)
    {
        var any = false;
        foreach (var alike in gradients.GroupBy(gradient => (gradient.dtype, gradient.device_type, gradient.device_index, gradient.is_sparse)))
        {
            var device = alike.First().device;
            var found = zeros(1, ScalarType.Float32, device);
            var factor = full(1, (float)(1.0 / scale), ScalarType.Float32, device); // PyTorch inverts in float64, too
            if (GradientUnscaling.IsSupported && !alike.Key.is_sparse)
                UnscaleNative([.. alike], found, factor);
            else
                UnscaleManaged(alike, found, factor);
            any |= found.item<float>() != 0; // one copy from the device for all gradients
        }

        return any;
    }

    private static void UnscaleNative(Tensor[] gradients, Tensor found, Tensor factor)
    {
        GradientUnscaling.Unscale(Array.ConvertAll(gradients, TensorIdentity.Of), found, factor);
        GC.KeepAlive(gradients);
    }

    internal static void UnscaleManaged(IEnumerable<Tensor> gradients, Tensor found, Tensor factor)
    {
        foreach (var gradient in gradients)
        {
            using var scope = NewDisposeScope();
            var values = gradient.is_sparse ? gradient.SparseValues : gradient;
            found.logical_or_(values.isfinite().all().logical_not());
            values.mul_(factor);
        }
    }

    private static (bool HasGradients, bool FoundNonFinite) Combine(bool hasGradients, bool found, Device device, ProcessGroup? group)
    {
        if (group is null)
            return (hasGradients, found);
        var facts = tensor(new[] { hasGradients ? 1f : 0f, found ? 1f : 0f }, device: device);
        group.AllReduce(facts, ReduceOp.Max).Wait();
        return (facts[0].item<float>() != 0, facts[1].item<float>() != 0);
    }
}
