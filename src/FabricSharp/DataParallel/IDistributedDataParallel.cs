using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// What a module whose gradients are averaged offers, whatever its inputs. The loop is the plain one: forward pass, <see cref="Backward"/> (or
/// <c>loss.backward()</c> where gradient hooks are available), <see cref="EnsureReduced"/>, step. Names and meanings follow PyTorch's
/// DistributedDataParallel; <c>state_dict</c> keys are the original's, without a prefix.
/// </summary>
public interface IDistributedDataParallel : IDisposable
{
    /// <summary>The original module.</summary>
    nn.Module Module { get; }

    /// <summary>Which parameters took no part in synchronised backward passes so far. Local.</summary>
    UnusedParameterReport UnusedParameters { get; }

    internal GradientReducer Reducer { get; }

    /// <summary>
    /// Runs the backward pass; the gradients are averaged when it returns. A plain <c>loss.backward()</c> does so too where gradient hooks are available
    /// (see <c>fabric doctor</c>), but large gradients are then copied once more, and failures surface later. Collective.
    /// </summary>
    /// <param name="loss">A scalar that depends on parameters.</param>
    /// <param name="retainGraph">Keeps the graph for a further backward pass through it. <value>Default false.</value></param>
    /// <exception cref="Collectives.DistributedException">Another rank failed, diverged or did not come in time.</exception>
    void Backward(Tensor loss, bool retainGraph = false);

    /// <summary>
    /// To be called before an optimizer steps: a step on gradients that were not averaged would make the replicas diverge without a word.
    /// Collective where this rank took no part in the last backward pass: it contributes zeros then.
    /// </summary>
    /// <exception cref="UnfinishedReductionException">The last backward pass left parameters without a gradient.</exception>
    void EnsureReduced();

    /// <summary>
    /// Inside this scope, forward passes and their backward passes do not average gradients: they add up on each rank, and the next pass outside
    /// averages the sums. What counts is where the <i>forward</i> pass ran. Local.
    /// </summary>
    /// <returns>Dispose it to end the scope.</returns>
    IDisposable NoSync();

    /// <summary>See <see cref="DataParallel.Join.Run"/>, for this module alone. Collective.</summary>
    void Join(Action body, bool throwOnEarlyTermination = false, bool divideByInitialWorldSize = true);

    /// <summary>Averages gradients through <paramref name="hook"/> from now on. Once, before the first forward pass. Collective.</summary>
    /// <exception cref="InvalidOperationException">A hook is registered already, or training has begun.</exception>
    void RegisterCommHook(CommunicationHook hook);

    /// <summary>What was measured so far. Local.</summary>
    DDPLoggingData GetLoggingData();
}
