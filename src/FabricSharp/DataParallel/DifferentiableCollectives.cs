using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// Collectives that gradients flow through, as in PyTorch's <c>torch.distributed.nn.functional</c>. The forward pass is collective, and where
/// the input requires a gradient so is the backward pass: every rank runs both, in the same order.
/// </summary>
public static class DifferentiableCollectives
{
    /// <summary>Collects every rank's tensor. Backward: each rank gets the sum of all ranks' gradients for its own slice. Collective.</summary>
    /// <param name="group">The ranks.</param>
    /// <param name="input">Same shape and data type on every rank.</param>
    /// <returns>A new tensor of shape (size, …shape of input), rank r's at index r.</returns>
    /// <exception cref="DistributedException">Another rank failed, diverged or did not come in time, in this pass or in an earlier backward pass.</exception>
    public static Tensor AllGatherWithGradient(this ProcessGroup group, Tensor input)
    {
        ArgumentNullException.ThrowIfNull(group);
        ArgumentNullException.ThrowIfNull(input);
        return Apply(group, input, () => GatherFunction.apply(input, group), () => Gather(input, group));
    }

    /// <summary>Sums or averages the ranks' tensors element by element. Backward: the gradients are combined in the same way. Collective.</summary>
    /// <param name="group">The ranks.</param>
    /// <param name="input">Same shape and data type on every rank; not changed.</param>
    /// <param name="op"><see cref="ReduceOp.Sum"/> or <see cref="ReduceOp.Average"/>. <value>Default <see cref="ReduceOp.Sum"/>.</value></param>
    /// <returns>A new tensor of the same shape, bitwise equal on all ranks.</returns>
    /// <exception cref="ArgumentException">Another operation, through which no gradient flows.</exception>
    /// <exception cref="DistributedException">Another rank failed, diverged or did not come in time, in this pass or in an earlier backward pass.</exception>
    public static Tensor AllReduceWithGradient(this ProcessGroup group, Tensor input, ReduceOp? op = null)
    {
        ArgumentNullException.ThrowIfNull(group);
        ArgumentNullException.ThrowIfNull(input);
        var reduction = op ?? ReduceOp.Sum;
        if (reduction != ReduceOp.Sum && reduction != ReduceOp.Average)
            throw new ArgumentException($"AllReduceWithGradient(op: {reduction}): gradients flow through Sum and Average only.", nameof(op));
        return Apply(group, input, () => ReduceFunction.apply(input, group, reduction), () => ReduceFunction.Reduce(input, group, reduction));
    }

    /// <summary>Collects every rank's tensor, without a way back for gradients. Collective.</summary>
    internal static Tensor Gather(Tensor input, ProcessGroup group)
    {
        var output = empty([group.Size, .. input.shape], input.dtype, input.device);
        using var plain = input.detach();
        group.AllGather(output, plain).Wait();
        return output;
    }

    /// <summary>TorchSharp leaves a copy of the output and an empty tensor of its size behind, which the scope frees.</summary>
    private static Tensor Apply(ProcessGroup group, Tensor input, Func<Tensor> recorded, Func<Tensor> plain)
    {
        GuardedBackward.BeforeForward(group);
        if (!is_grad_enabled() || !input.requires_grad)
            return plain();
        using var scope = NewDisposeScope();
        return recorded().MoveToOuterDisposeScope();
    }

    private sealed class GatherFunction : autograd.SingleTensorFunction<GatherFunction>
    {
        public override string Name => "AllGather";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var (input, group) = ((Tensor)vars[0], (ProcessGroup)vars[1]);
            ctx.set_materialize_grads(false);
            ctx.save_data("call", new Call(group, input.shape, input.dtype, input.device));
            return Gather(input, group);
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
        {
            var call = (Call)ctx.get_data("call");
            return GuardedBackward.Run(call.Group, grad_output, [call.Shape, null], () =>
            {
                var all = call.Copy(grad_output, [call.Group.Size, .. call.Shape]);
                call.Group.AllReduce(all).Wait();
                return [all[call.Group.Rank].clone(), null];
            });
        }
    }

    private sealed class ReduceFunction : autograd.SingleTensorFunction<ReduceFunction>
    {
        public override string Name => "AllReduce";

        public static Tensor Reduce(Tensor input, ProcessGroup group, ReduceOp op)
        {
            using var plain = input.detach();
            var output = plain.clone();
            group.AllReduce(output, op).Wait();
            return output;
        }

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var (input, group, op) = ((Tensor)vars[0], (ProcessGroup)vars[1], (ReduceOp)vars[2]);
            ctx.set_materialize_grads(false);
            ctx.save_data("call", new Call(group, input.shape, input.dtype, input.device));
            ctx.save_data("op", op);
            return Reduce(input, group, op);
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
        {
            var (call, op) = ((Call)ctx.get_data("call"), (ReduceOp)ctx.get_data("op"));
            return GuardedBackward.Run(call.Group, grad_output, [call.Shape, null, null], () =>
            {
                var gradient = call.Copy(grad_output, call.Shape);
                call.Group.AllReduce(gradient, op).Wait();
                return [gradient, null, null];
            });
        }
    }

    /// <summary>What a backward pass has to know of its forward pass.</summary>
    private sealed record Call(ProcessGroup Group, long[] Shape, ScalarType Type, Device Device)
    {
        /// <summary>A contiguous copy; zeros where this rank's loss did not use the output, for the others wait all the same.</summary>
        public Tensor Copy(Tensor? gradient, long[] shape) =>
            gradient is null || gradient.IsInvalid ? zeros(shape, Type, Device) : gradient.detach().contiguous().clone();
    }
}
