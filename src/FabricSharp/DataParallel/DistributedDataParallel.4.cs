using FabricSharp.Collectives;
using FabricSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// Data-parallel training of a module with four inputs, without the façade: every rank of a group has a replica, and gradients are averaged while
/// the backward pass runs. See <see cref="IDistributedDataParallel"/> for what may be called on it.
/// </summary>
/// <typeparam name="T1">Type of an input.</typeparam>
/// <typeparam name="T2">Type of an input.</typeparam>
/// <typeparam name="T3">Type of an input.</typeparam>
/// <typeparam name="T4">Type of an input.</typeparam>
/// <typeparam name="TResult">Type of the output.</typeparam>
public sealed class DistributedDataParallel<T1, T2, T3, T4, TResult> : ModuleWrapper<T1, T2, T3, T4, TResult>, IDistributedDataParallel
{
    private readonly DataParallelEngine _engine;

    /// <summary>Checks that all ranks have the same model, gives them rank 0's values, and watches over its gradients. Collective.</summary>
    /// <param name="module">The replica of this rank, on its device and in its element types already. It stays the caller's.</param>
    /// <param name="group">The ranks. It stays the caller's, and must outlive this object.</param>
    /// <param name="options">How gradients are averaged, the same on every rank. <value>Default: <see cref="DDPOptions"/>'s defaults.</value></param>
    /// <exception cref="ArgumentException">Options are out of range or contradict each other: all problems at once.</exception>
    /// <exception cref="InvalidOperationException">The ranks' models or options differ, or no parameter requires a gradient.</exception>
    public DistributedDataParallel(nn.Module<T1, T2, T3, T4, TResult> module, ProcessGroup group, DDPOptions? options = null)
        : base(module) => _engine = new DataParallelEngine(module, group, options ?? new DDPOptions());

    /// <inheritdoc/>
    public UnusedParameterReport UnusedParameters => _engine.Reducer.UnusedParameters;

    GradientReducer IDistributedDataParallel.Reducer => _engine.Reducer;

    /// <summary>The original's forward pass. Collective in training: every rank calls it equally often.</summary>
    /// <exception cref="UnfinishedReductionException">The last backward pass left parameters without a gradient.</exception>
    public override TResult forward(T1 input1, T2 input2, T3 input3, T4 input4)
    {
        _engine.Reducer.BeforeForward();
        var output = Inner.call(input1, input2, input3, input4);
        _engine.Reducer.AfterForward();
        return output;
    }

    /// <inheritdoc/>
    public void Backward(Tensor loss, bool retainGraph = false) => _engine.Backward(loss, retainGraph);

    /// <inheritdoc/>
    public void EnsureReduced() => _engine.Reducer.BeforeStep();

    /// <inheritdoc/>
    public IDisposable NoSync() => _engine.NoSync();

    /// <inheritdoc/>
    public void Join(Action body, bool throwOnEarlyTermination = false, bool divideByInitialWorldSize = true) =>
        DataParallel.Join.Run([this], body, throwOnEarlyTermination, divideByInitialWorldSize);

    /// <inheritdoc/>
    public void RegisterCommHook(CommunicationHook hook) => _engine.Reducer.Register(hook);

    /// <inheritdoc/>
    public DDPLoggingData GetLoggingData() => _engine.Reducer.LoggingData();

    /// <summary>Ends the averaging of this module's gradients. The original module and the group are not disposed.</summary>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
            _engine.Dispose();
    }
}
