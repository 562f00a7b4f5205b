using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// y = (x − mean) / sqrt(variance + ε) · weight + bias, where mean and variance are those of all ranks' batches: the gradient of x depends on all
/// ranks' gradients of y. Arguments: input, weight or null, bias or null, mean, variance, <see cref="Call"/>.
/// </summary>
internal sealed class NormalizationFunction : autograd.SingleTensorFunction<NormalizationFunction>
{
    public override string Name => "SyncBatchNorm";

    /// <summary>The forward pass alone.</summary>
    public static Tensor Normalize(Tensor input, Tensor? weight, Tensor? bias, Tensor mean, Tensor variance, double epsilon)
    {
        using var scope = NewDisposeScope();
        return nn.functional.batch_norm(input, mean, variance, weight?.to(mean.dtype), bias?.to(mean.dtype), training: false, eps: epsilon).MoveToOuterDisposeScope();
    }

    public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
    {
        var (input, weight, bias) = ((Tensor)vars[0], (Tensor?)vars[1], (Tensor?)vars[2]);
        var (mean, variance, call) = ((Tensor)vars[3], (Tensor)vars[4], (Call)vars[5]);
        ctx.set_materialize_grads(false);
        ctx.save_for_backward([input, weight!, mean, variance]);
        ctx.save_data("call", call);
        return Normalize(input, weight, bias, mean, variance, call.Epsilon);
    }

    public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
    {
        var call = (Call)ctx.get_data("call");
        return GuardedBackward.Run(call.Group, grad_output, call.InputShapes, () =>
        {
            var saved = ctx.get_saved_variables();
            return Gradients(call, grad_output, saved[0], saved[1], saved[2], saved[3]);
        });
    }

    private static Tensor?[] Gradients(Call call, Tensor? gradOutput, Tensor input, Tensor? weight, Tensor mean, Tensor variance)
    {
        var type = mean.dtype;
        var dimensions = BatchStatistics.ReducedDimensions(input);
        var perChannel = Enumerable.Repeat(1L, (int)input.dim()).ToArray();
        perChannel[1] = -1;
        using TorchSharp.Scalar epsilon = call.Epsilon;
        var inverseDeviation = (variance + epsilon).rsqrt();
        var gradient = gradOutput is null || gradOutput.IsInvalid ? zeros_like(input, type) : gradOutput.to(type);
        var centred = input.to(type) - mean.view(perChannel);

        var sum = gradient.sum(dimensions).to(ScalarType.Float64);
        var product = BatchStatistics.Sum(input, (first, length) => gradient.narrow(0, first, length) * centred.narrow(0, first, length));
        var all = stack([sum, product]);
        call.Group.AllReduce(all).Wait();
        all.div_(tensor((double)call.Count, ScalarType.Float64, all.device));

        // dx = (dy − mean(dy) − x̂ · mean(dy · x̂)) · weight / deviation, with means over all ranks' batches
        var factor = weight is null ? inverseDeviation : inverseDeviation * weight.to(type);
        var slope = all[1].to(type) * inverseDeviation.square();
        var gradInput = centred.mul_(slope.view(perChannel)).add_(all[0].to(type).view(perChannel)).neg_().add_(gradient).mul_(factor.view(perChannel));
        return
        [
            gradInput.to(input.dtype),
            weight is null ? null : (product * inverseDeviation).to(weight.dtype),
            call.BiasType is null ? null : sum.to(call.BiasType.Value),
            null,
            null,
            null,
        ];
    }

    /// <summary>What is no tensor.</summary>
    /// <param name="Group">The ranks.</param>
    /// <param name="Count">Values per channel over all ranks.</param>
    /// <param name="Epsilon">Added to the variance.</param>
    /// <param name="BiasType">Null where there is no bias.</param>
    /// <param name="InputShapes">Of each argument; null for what is none or gets no gradient.</param>
    internal sealed record Call(ProcessGroup Group, long Count, double Epsilon, ScalarType? BiasType, IReadOnlyList<long[]?> InputShapes);
}
