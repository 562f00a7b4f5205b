using FabricSharp.DataParallel;
using TorchSharp.Modules;

namespace FabricSharp.Strategies;

/// <summary>What a strategy does around the forward passes and steps of one module. This one, for a single rank, does nothing.</summary>
internal class ModuleHandler : IDisposable
{
    private static readonly UnusedParameterReport NothingUnused = new(0, []);

    public virtual bool RequiresSynchronization { get; set; } = true;

    public virtual UnusedParameterReport UnusedParameters => NothingUnused;

    public virtual bool Owns(Parameter parameter) => false;

    public virtual void BeforeForward()
    {
    }

    public virtual void BeforeStep()
    {
    }

    public virtual void Dispose()
    {
    }
}
