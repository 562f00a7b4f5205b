using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Gradient checkpointing as a user would write it with TorchSharp: activations are made anew inside the backward pass, by a nested one.</summary>
internal sealed class Recomputed : autograd.SingleTensorFunction<Recomputed>
{
    public override string Name => nameof(Recomputed);

    /// <summary>Runs <paramref name="module"/> on <paramref name="input"/>, which requires a gradient, without keeping activations.</summary>
    public static Tensor Run(nn.Module<Tensor, Tensor> module, Tensor input) => apply(input, module);

    public override Tensor forward(autograd.AutogradContext context, params object[] arguments)
    {
        var input = (Tensor)arguments[0];
        var module = (nn.Module<Tensor, Tensor>)arguments[1];
        context.save_data("module", module);
        context.save_for_backward([input]);
        using var gradientsOff = no_grad();
        return module.call(input);
    }

    public override List<Tensor> backward(autograd.AutogradContext context, Tensor gradient)
    {
        using var gradientsOn = enable_grad();
        var input = context.get_saved_variables()[0].detach().requires_grad_();
        ((nn.Module<Tensor, Tensor>)context.get_data("module")).call(input).backward([gradient]);
        return [input.grad!, null!];
    }
}
