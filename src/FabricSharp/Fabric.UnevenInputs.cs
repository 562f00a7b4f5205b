using FabricSharp.DataParallel;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Ranks with different numbers of batches.</summary>
public sealed partial class Fabric
{
    /// <summary>
    /// Runs a training loop that may end earlier on some ranks than on others: see <see cref="DataParallel.Join.Run"/>. With a strategy that does not
    /// average gradients the loop just runs. Collective.
    /// </summary>
    /// <param name="models">What <c>Setup</c> gave back for the models that the loop trains, in the same order on every rank.</param>
    /// <param name="body">The loop.</param>
    /// <param name="throwOnEarlyTermination">True: as soon as one rank is out of data, all throw. <value>Default false.</value></param>
    /// <param name="divideByInitialWorldSize">Whether sums are divided by the number of all ranks, or of those that still train. <value>Default true.</value></param>
    /// <exception cref="ArgumentException">No model, or one that was not set up.</exception>
    public void Join(IReadOnlyList<nn.Module> models, Action body, bool throwOnEarlyTermination = false, bool divideByInitialWorldSize = true)
    {
        ArgumentNullException.ThrowIfNull(models);
        ArgumentNullException.ThrowIfNull(body);
        RequireLaunched(nameof(Join));
        var reducers = models.Select(ReducerOf).ToList();
        if (reducers.Count > 0 && reducers.All(reducer => reducer is null))
            body();
        else
            DataParallel.Join.RunOver([.. reducers.OfType<GradientReducer>()], body, throwOnEarlyTermination, divideByInitialWorldSize);
    }

    private static GradientReducer? ReducerOf(nn.Module model) => model is IFabricModule wrapped
        ? wrapped.Handler.Reducer
        : throw new ArgumentException("You need to set up the model first before you can call `fabric.Join()`: `var model = fabric.Setup(module);`.", nameof(model));
}
