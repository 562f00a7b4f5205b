using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using FabricSharp.Clipping;
using FabricSharp.DataParallel;
using FabricSharp.Strategies;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>What a training step calls.</summary>
public sealed partial class Fabric
{
    /// <summary>
    /// Runs the backward pass of <paramref name="loss"/>. The gradients are averaged over the ranks when it returns. With
    /// <c>precision: "16-mixed"</c> the loss is scaled, and the gradients are until the optimizer steps. Collective.
    /// </summary>
    /// <param name="loss">A scalar that depends on parameters.</param>
    /// <param name="retainGraph">Keeps the graph for a further backward pass through it. <value>Default false.</value></param>
    /// <exception cref="Collectives.DistributedException">Another rank failed, diverged or did not come in time.</exception>
    public void Backward(Tensor loss, bool retainGraph = false)
    {
        ArgumentNullException.ThrowIfNull(loss);
        RequireLaunched(nameof(Backward));
        RequireSetUp();
        try
        {
            if (_scaled is null)
                Strategy.Backward(loss, retainGraph);
            else
                _scaled.Backward(loss, scaled => Strategy.Backward(scaled, retainGraph));
        }
        catch (ExternalException) when (Strategy.Group is { } group && GuardedBackward.FailureOf(group) is not null)
        {
            ExceptionDispatchInfo.Throw(GuardedBackward.FailureOf(group)!); // libtorch's error says only that it was given no gradient
        }
        foreach (var handler in _handlers)
            handler.RequireForwardPass();
    }

    /// <summary>
    /// Clamps each element of the gradients of <paramref name="optimizer"/>'s parameters, in place. After the last backward pass of a step, once per
    /// step; with <c>precision: "16-mixed"</c> the gradients are unscaled first. Collective, as <see cref="FabricOptimizer.step"/> is.
    /// </summary>
    /// <param name="module">The model that the optimizer trains.</param>
    /// <param name="optimizer">As <c>Setup</c> gave it back.</param>
    /// <param name="clipVal">Elements end up between −<paramref name="clipVal"/> and <paramref name="clipVal"/>; not negative.</param>
    /// <exception cref="ArgumentException">The optimizer was not set up, or the number is out of its range.</exception>
    /// <exception cref="NotSupportedException">The precision scales the loss and the optimizer cannot be unscaled beforehand (LBFGS).</exception>
    public void ClipGradients(nn.Module module, optim.Optimizer optimizer, double clipVal)
    {
        RequireLimit(clipVal, nameof(clipVal));
        GradientClipping.ClipValue(ToBeClipped(module, optimizer), clipVal);
    }

    /// <summary>
    /// Scales the gradients of <paramref name="optimizer"/>'s parameters down, in place and all by the same factor, where their common norm is above
    /// <paramref name="maxNorm"/>. They are averages, so the norm is the same on every rank. After the last backward pass of a step, once per step; with
    /// <c>precision: "16-mixed"</c> the gradients are unscaled first. Collective, as <see cref="FabricOptimizer.step"/> is.
    /// </summary>
    /// <param name="module">The model that the optimizer trains.</param>
    /// <param name="optimizer">As <c>Setup</c> gave it back.</param>
    /// <param name="maxNorm">Not negative.</param>
    /// <param name="normType">The order p of the norm: above 0, or <see cref="double.PositiveInfinity"/> for the largest absolute value. <value>Default 2.</value></param>
    /// <param name="errorIfNonfinite">Whether an infinite or NaN norm is an error; false multiplies the gradients by what comes out. <value>Default true.</value></param>
    /// <returns>The norm before clipping, a scalar tensor of the caller's; 0 where no parameter has a gradient.</returns>
    /// <exception cref="InvalidOperationException">The norm is not finite, on every rank alike.</exception>
    /// <exception cref="ArgumentException">The optimizer was not set up, or a number is out of its range.</exception>
    /// <exception cref="NotSupportedException">The precision scales the loss and the optimizer cannot be unscaled beforehand (LBFGS).</exception>
    public Tensor ClipGradients(nn.Module module, optim.Optimizer optimizer, double maxNorm, double normType = 2, bool errorIfNonfinite = true)
    {
        RequireLimit(maxNorm, nameof(maxNorm));
        if (!(normType > 0))
            throw new ArgumentOutOfRangeException(nameof(normType), normType, $"ClipGradients(normType: {normType}): the order of a norm is above 0; double.PositiveInfinity is the largest absolute value.");
        return GradientClipping.ClipNorm(ToBeClipped(module, optimizer), maxNorm, normType, errorIfNonfinite);
    }

    private static void RequireLimit(double limit, string argument)
    {
        if (!(limit >= 0))
            throw new ArgumentOutOfRangeException(argument, limit, $"ClipGradients({argument}: {limit}): a limit is 0 or more.");
    }

    /// <summary>The parameters, their gradients complete and unscaled.</summary>
    private IReadOnlyList<Parameter> ToBeClipped(nn.Module module, optim.Optimizer optimizer)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(optimizer);
        RequireLaunched(nameof(ClipGradients));
        if (optimizer is not FabricOptimizer wrapped)
            throw new ArgumentException("You need to set up the optimizer first before you can call `fabric.ClipGradients()`: `var (model, optimizer) = fabric.Setup(module, optimizer);`.", nameof(optimizer));
        wrapped.CompleteGradients();
        if (_scaled is not null && wrapped.Optimizer is LBFGS)
            throw new NotSupportedException("Gradient clipping is not implemented for optimizers handling the unscaling: LBFGS cannot be used with a scaled loss. Use another optimizer, or precision: \"bf16-mixed\".");
        Precision.UnscaleGradients(wrapped);
        return [.. wrapped.parameters()];
    }

    /// <summary>
    /// Inside this scope, operations outside a model's forward pass (a loss, say) compute as those inside it do: under autocast with the mixed
    /// precisions, with new tensors in the precision's element type with the true ones. Local.
    /// </summary>
    /// <returns>Dispose it on the same thread to end the scope.</returns>
    public IDisposable Autocast()
    {
        RequireAlive(nameof(Autocast));
        return Precision.ForwardContext();
    }

    /// <summary>
    /// Inside this scope, forward passes of <paramref name="module"/> and their backward passes do not average gradients: they accumulate on
    /// each rank, and the next pass outside averages the sums. What counts is where the <i>forward</i> pass ran. Local.
    /// </summary>
    /// <param name="module">A module that <c>Setup</c> gave back.</param>
    /// <param name="enabled">False makes the scope do nothing, for <c>enabled: isAccumulating</c>.</param>
    /// <returns>Dispose it to end the scope.</returns>
    /// <exception cref="ArgumentException">The module was not set up.</exception>
    public IDisposable NoBackwardSync(nn.Module module, bool enabled = true)
    {
        RequireAlive(nameof(NoBackwardSync));
        if (module is not IFabricModule wrapped)
            throw new ArgumentException("You need to set up the model first before you can call `fabric.NoBackwardSync()`: `var model = fabric.Setup(module);`.", nameof(module));
        return new NoSyncScope(wrapped.Handler, enabled);
    }

    /// <summary>Without a model that the strategy knows, the ranks would train apart.</summary>
    private void RequireSetUp()
    {
        if (Strategy.IsDistributed && _handlers.Count == 0)
            throw new InvalidOperationException(
                $"Rank {GlobalRank}: `Backward` was called before any model was set up, so no gradient would be averaged and the ranks' models would drift apart. Write `var (model, optimizer) = fabric.Setup(module, optimizer);` first, and call `model`.");
    }
}
