using static TorchSharp.torch;

namespace FabricSharp.Precision;

/// <summary>How Fabric uses a scaler: backward passes are scaled, steps unscale, skip and update.</summary>
internal sealed class ScaledTraining(GradScaler scaler)
{
    /// <summary>How many backward passes there were.</summary>
    public long BackwardPasses { get; private set; }

    public void Backward(Tensor loss, Action<Tensor> backward)
    {
        using var scaled = scaler.Scale(loss);
        backward(scaled);
        BackwardPasses++;
    }

    /// <param name="optimizer">An original optimizer.</param>
    /// <param name="passesAtLastStep">What <see cref="BackwardPasses"/> was at its last step.</param>
    public Tensor? Step(optim.Optimizer optimizer, long passesAtLastStep)
    {
        if (optimizer is TorchSharp.Modules.LBFGS)
            throw new NotSupportedException("AMP and the LBFGS optimizer are not compatible: it needs a closure. Use another optimizer, or precision: \"bf16-mixed\".");
        if (BackwardPasses == passesAtLastStep)
            throw new InvalidOperationException("The current strategy and precision selection requires you to call `fabric.Backward(loss)` instead of `loss.backward()`: precision='16-mixed' scales the loss there.");
        var result = scaler.Step(optimizer);
        scaler.Update();
        return result;
    }
}
