using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Exchange;

/// <summary>Every rank's tensor, one behind the other, with or without a way back for gradients.</summary>
internal static class GatheredTensor
{
    /// <summary>Collective.</summary>
    public static Tensor Of(Tensor tensor, ProcessGroup group)
    {
        using var own = tensor.detach();
        var output = empty([group.Size, .. tensor.shape], tensor.dtype, tensor.device);
        group.AllGather(output, own).Wait();
        return output;
    }

    /// <summary>Collective, and so is each backward pass through the result.</summary>
    public static Tensor WithGradient(Tensor tensor, ProcessGroup group) => Function.apply(tensor, group);

    /// <summary>A rank's tensor is part of what every rank got, so that its gradient is the sum of the ranks' gradients for that part.</summary>
    private sealed class Function : autograd.SingleTensorFunction<Function>
    {
        private const string Group = "group";

        public override string Name => nameof(GatheredTensor);

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            ctx.save_data(Group, vars[1]);
            return Of((Tensor)vars[0], (ProcessGroup)vars[1]);
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
        {
            using var gradientsOff = no_grad();
            var group = (ProcessGroup)ctx.get_data(Group)!;
            using var all = grad_output.clone(); // autograd may use its own elsewhere
            group.AllReduce(all, ReduceOp.Sum).Wait();
            using var own = all[group.Rank];
            return [own.clone(), null!];
        }
    }
}
