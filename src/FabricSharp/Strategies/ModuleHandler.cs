using FabricSharp.DataParallel;
using TorchSharp.Modules;

namespace FabricSharp.Strategies;

/// <summary>What a strategy does around the forward passes and steps of one module. This one, for a single rank, does nothing.</summary>
internal class ModuleHandler : ISynchronized, IDisposable
{
    private static readonly UnusedParameterReport NothingUnused = new(0, []);

    public virtual bool RequiresSynchronization { get; set; } = true;

    public virtual UnusedParameterReport UnusedParameters => NothingUnused;

    public virtual bool Owns(Parameter parameter) => false;

    /// <summary>What averages the module's gradients; null where nothing does.</summary>
    public virtual GradientReducer? Reducer => null;

    public virtual DDPLoggingData LoggingData() =>
        throw new InvalidOperationException("There is no data-parallel logging data: this module was set up by a strategy that does not average gradients. Use strategy: \"ddp\".");

    /// <summary>To be called before each forward pass.</summary>
    public void BeginForward()
    {
        HasForwarded = HasForwarded || TorchSharp.torch.is_grad_enabled();
        BeforeForward();
    }

    /// <summary>
    /// Refuses gradients that no forward pass through this object has led to: they come from a forward pass of the original module and were not averaged.
    /// Looked at until the first forward pass only.
    /// </summary>
    public virtual void RequireForwardPass()
    {
    }

    /// <summary>Whether there was a forward pass with gradients enabled.</summary>
    protected bool HasForwarded { get; private set; }

    protected virtual void BeforeForward()
    {
    }

    public virtual void AfterForward()
    {
    }

    public virtual void BeforeStep()
    {
    }

    public virtual void Dispose()
    {
    }
}
