using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>The live objects of an optimizer that its state is made of.</summary>
internal sealed class OptimizerParts
{
    /// <exception cref="ArgumentException">The optimizer does not show its state, or has lost its parameters.</exception>
    public OptimizerParts(optim.Optimizer optimizer)
    {
        if (optimizer is IShardedOptimizer sharded)
        {
            (TypeName, Groups, States) = (sharded.Inner.GetType().Name, sharded.WholeGroups, sharded.OwnStates);
            Parameters = [.. Groups.SelectMany(group => group.Parameters)];
            return;
        }

        TypeName = optimizer.GetType().Name;
        if (optimizer is not OptimizerHelper helper)
            throw new ArgumentException($"A checkpoint cannot hold an optimizer {TypeName}: it keeps its state where .NET cannot read it. Use one of the others (Adam, SGD, …).", "state");
        Groups = [.. helper.ParamGroups.Cast<ParamGroup>()];
        try
        {
            States = [.. helper.state_dict().State];
        }
        catch (KeyNotFoundException e)
        {
            throw new ArgumentException($"The optimizer {TypeName} does not know the parameters that its module has now: module.to(…) replaced them. Make the optimizer after it (Fabric's Setup moves modules without that).", "state", e);
        }

        Parameters = [.. Groups.SelectMany(group => group.Parameters)];
    }

    public string TypeName { get; }

    public IReadOnlyList<ParamGroup> Groups { get; }

    /// <summary>One for each of <see cref="Parameters"/>; null where another rank has it.</summary>
    public IReadOnlyList<TorchSharp.Modules.OptimizerState?> States { get; }

    public IReadOnlyList<Parameter> Parameters { get; }
}
