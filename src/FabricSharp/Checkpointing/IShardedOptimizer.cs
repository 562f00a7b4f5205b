using System.Text.Json;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Checkpointing;

/// <summary>An optimizer of which each rank has the state of some parameters. It is saved in the form that its inner optimizer would have over all of them.</summary>
internal interface IShardedOptimizer
{
    /// <summary>What steps this rank's parameters.</summary>
    OptimizerHelper Inner { get; }

    /// <summary>The groups with all their parameters; the options are the inner optimizer's own.</summary>
    IReadOnlyList<ParamGroup> WholeGroups { get; }

    /// <summary>One for each parameter of the groups; null where another rank has it.</summary>
    IReadOnlyList<TorchSharp.Modules.OptimizerState?> OwnStates { get; }

    /// <summary>The states of all parameters, as <see cref="OptimizerState.SaveStates"/> gives them.</summary>
    /// <exception cref="ArgumentException">They are not on this rank.</exception>
    (IReadOnlyList<IReadOnlyDictionary<string, JsonElement>> Fields, IReadOnlyList<(string Name, Tensor Tensor)> Tensors) ConsolidatedStates();

    /// <summary>States change: what was consolidated is old.</summary>
    void ForgetConsolidated();
}
