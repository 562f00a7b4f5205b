using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using FabricSharp.DataParallel;
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
    }

    /// <summary>
    /// Inside this scope, operations outside a model's forward pass (a loss, say) compute as those inside it do: under autocast with the mixed
    /// precisions, with new tensors in the precision's element type with the true ones. Local.
    /// </summary>
    /// <returns>Dispose it on the same thread to end the scope.</returns>
    public IDisposable Autocast() => Precision.ForwardContext();

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
        if (module is not IFabricModule wrapped)
            throw new ArgumentException("You need to set up the model first before you can call `fabric.NoBackwardSync()`: `var model = fabric.Setup(module);`.", nameof(module));
        return new NoSyncScope(wrapped.Handler, enabled);
    }

    private sealed class NoSyncScope : IDisposable
    {
        private readonly Strategies.ModuleHandler _handler;
        private readonly bool _before;

        public NoSyncScope(Strategies.ModuleHandler handler, bool enabled)
        {
            _handler = handler;
            _before = handler.RequiresSynchronization;
            if (enabled)
                handler.RequiresSynchronization = false;
        }

        public void Dispose() => _handler.RequiresSynchronization = _before;
    }
}
