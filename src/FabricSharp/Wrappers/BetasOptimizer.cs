using FabricSharp.Precision;
using FabricSharp.Strategies;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>The wrapper of an optimizer that has betas: schedulers that cycle it look at the type.</summary>
internal sealed class BetasOptimizer(
    optim.IBetas betas, optim.Optimizer optimizer, Strategy strategy, Func<IEnumerable<ModuleHandler>> modules, ScaledTraining? scaled)
    : FabricOptimizer(optimizer, strategy, modules, scaled), optim.IBetas
{
    public (double, double) Betas
    {
        get => betas.Betas;
        set => betas.Betas = value;
    }
}
