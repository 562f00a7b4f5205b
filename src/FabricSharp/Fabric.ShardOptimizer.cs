using FabricSharp.DataParallel;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Optimizers whose state is spread over the ranks.</summary>
public sealed partial class Fabric
{
    /// <summary>Spreads the state of an optimizer over the ranks: see <see cref="ZeroRedundancyOptimizer"/>. Pass the result to <c>Setup</c>. Collective.</summary>
    /// <param name="parameters">The same parameters in the same order on every rank.</param>
    /// <param name="factory">Makes the optimizer from this rank's share.</param>
    /// <exception cref="ArgumentException">The ranks' parameters differ, or the optimizer cannot be shared out.</exception>
    public ZeroRedundancyOptimizer ShardOptimizer(IEnumerable<Parameter> parameters, Func<IEnumerable<Parameter>, optim.Optimizer> factory)
    {
        RequireLaunched(nameof(ShardOptimizer));
        return new ZeroRedundancyOptimizer(parameters, factory, Strategy.Group);
    }

    /// <summary>The same for several groups. Collective.</summary>
    /// <param name="groups">The parameters of each group; the same on every rank.</param>
    /// <param name="factory">Makes the optimizer from this rank's share of each group.</param>
    /// <exception cref="ArgumentException">The ranks' parameters differ, or the optimizer cannot be shared out.</exception>
    public ZeroRedundancyOptimizer ShardOptimizer(IEnumerable<IEnumerable<Parameter>> groups, Func<IReadOnlyList<IReadOnlyList<Parameter>>, optim.Optimizer> factory)
    {
        RequireLaunched(nameof(ShardOptimizer));
        return new ZeroRedundancyOptimizer(groups, factory, Strategy.Group);
    }
}
