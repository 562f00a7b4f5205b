using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Clipping;

/// <summary>Limits gradients in place, by PyTorch's formulas.</summary>
internal static class GradientClipping
{
    /// <summary>Added to the norm before it is divided by, as PyTorch does.</summary>
    private const double Epsilon = 1e-6;

    /// <summary>Clamps each element to ±<paramref name="limit"/>.</summary>
    public static void ClipValue(IEnumerable<Parameter> parameters, double limit)
    {
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        using TorchSharp.Scalar lowest = -limit, highest = limit; // held: TorchSharp lets the finaliser free numbers that it made itself during the call
        foreach (var gradient in Gradients(parameters))
            gradient.clamp_(lowest, highest);
    }

    /// <summary>Scales all gradients down so that their common norm is at most <paramref name="maxNorm"/>.</summary>
    /// <returns>The norm before, a scalar; 0 without gradients. It belongs to the dispose scope of the caller.</returns>
    /// <exception cref="InvalidOperationException">The norm is infinite or NaN and <paramref name="errorIfNonfinite"/>.</exception>
    public static Tensor ClipNorm(IEnumerable<Parameter> parameters, double maxNorm, double normType, bool errorIfNonfinite)
    {
        using var scope = NewDisposeScope();
        using var gradientsOff = no_grad();
        var gradients = Gradients(parameters).ToList();
        if (gradients.Count == 0)
            return zeros(1).squeeze().MoveToOuterDisposeScope();
        var total = Norm(stack(gradients.ConvertAll(gradient => Norm(gradient, normType).to(gradients[0].device))), normType);
        if (errorIfNonfinite && !total.isfinite().item<bool>())
            throw new InvalidOperationException(
                $"The total norm of order {normType} for gradients from `parameters` is non-finite ({total.to(ScalarType.Float64).item<double>()}), so it cannot be clipped. " +
                "To scale the gradients by the non-finite norm anyway, set `errorIfNonfinite: false`.");
        var factor = (maxNorm / (total + Epsilon)).clamp_max(1);
        foreach (var gradient in gradients)
            gradient.mul_(factor.to(gradient.dtype, gradient.device));
        return total.MoveToOuterDisposeScope();
    }

    private static Tensor Norm(Tensor tensor, double normType) => double.IsPositiveInfinity(normType)
        ? tensor.numel() == 0 ? zeros([], tensor.dtype, tensor.device) : tensor.abs().max()
        : linalg.vector_norm(tensor, normType);

    private static IEnumerable<Tensor> Gradients(IEnumerable<Parameter> parameters) => parameters.Select(parameter => parameter.grad).OfType<Tensor>();
}
