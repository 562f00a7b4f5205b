using FabricSharp.Precision;
using FabricSharp.Strategies;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>The wrapper of an optimizer that has a momentum: schedulers that cycle it look at the type.</summary>
internal sealed class MomentumOptimizer(
    optim.IMomentum momentum, optim.Optimizer optimizer, Strategy strategy, Func<IEnumerable<ModuleHandler>> modules, ScaledTraining? scaled)
    : FabricOptimizer(optimizer, strategy, modules, scaled), optim.IMomentum
{
    public double Momentum
    {
        get => momentum.Momentum;
        set => momentum.Momentum = value;
    }
}
