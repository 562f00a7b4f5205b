using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Diagnostics;

/// <summary>
/// Counts the floating-point operations of a model. A multiplication and an addition are two.
/// <para>Counted: the matrix products of Linear, of convolutions and transposed convolutions, of RNN, LSTM and GRU, and of MultiheadAttention
/// (its projections and both attention products), wherever they stand in the model and as often as they are called, by the shapes of what
/// goes through them; and what code reports with <see cref="Record"/>.</para>
/// <para>Not counted: biases, activations, normalisation, embeddings, pooling, losses; products that code makes itself (<c>torch.matmul</c>,
/// <c>scaled_dot_product_attention</c>) unless it reports them; modules that are called by <c>forward</c> instead of <c>call</c>, by a
/// PackedSequence, or inside of TorchSharp's natively implemented Transformer modules.</para>
/// </summary>
public static class Flops
{
    [ThreadStatic]
    private static FlopTally? _current;

    /// <summary>Runs <paramref name="forward"/> once and counts. Local.</summary>
    /// <param name="model">The module whose parts are counted, set up or not.</param>
    /// <param name="forward">Calls the model with a batch of the size that matters.</param>
    /// <param name="backward">Whether the backward pass is counted too. It is not run: each product costs one more for its weight's gradient
    /// and one more for its input's, where they require one. <value>Default true.</value></param>
    public static FlopCount Measure(nn.Module model, Action forward, bool backward = true)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(forward);
        var outer = _current;
        var tally = new FlopTally();
        var parts = model.named_modules().Prepend(("", model)).DistinctBy(pair => pair.Item2, ReferenceEqualityComparer.Instance).ToList();
        try
        {
            _current = tally;
            foreach (var (name, module) in parts)
                if (!tally.Watch(module) && HasMatrix(module))
                    tally.Uncounted.Add($"{(name.Length == 0 ? "the model itself" : name)} ({module.GetType().Name})");
            using (NewDisposeScope())
                forward();
        }
        finally
        {
            _current = outer;
            tally.StopWatching();
        }

        return new FlopCount(tally.Forward, backward ? tally.Backward : 0, tally.Uncounted);
    }

    /// <summary>
    /// Inside of a forward pass that is being measured, counts operations that hooks do not see; else does nothing. Local.
    /// </summary>
    /// <param name="forward">The operations of the forward pass: 2·m·k·n for a product of an m×k and a k×n matrix.</param>
    /// <param name="backward">Those of the backward pass. <value>Default: twice as many, as for a product of two matrices that both require gradients.</value></param>
    public static void Record(double forward, double? backward = null) => _current?.Add(forward, backward ?? 2 * forward);

    /// <summary>Whether the module has a matrix of its own that something is likely multiplied with.</summary>
    private static bool HasMatrix(nn.Module module) =>
        module is not (Embedding or EmbeddingBag) && module.named_parameters(recurse: false).Any(parameter => parameter.parameter.dim() >= 2);
}
