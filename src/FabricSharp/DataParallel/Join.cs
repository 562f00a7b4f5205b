namespace FabricSharp.DataParallel;

/// <summary>
/// Training on ranks with different numbers of batches: a rank that is out of data keeps the others company, contributing zeros, until all are. Follows
/// PyTorch's <c>Join</c> context manager.
/// </summary>
public static class Join
{
    /// <summary>
    /// Runs a training loop that may end earlier on some ranks than on others. Afterwards every rank has the parameters and buffers of the ranks
    /// that trained longest. Optimizers of ranks that ended earlier have seen fewer steps. Other collective calls inside
    /// <paramref name="body"/> must not differ in number between ranks (SyncBatchNorm in a model, for instance, does not work here). Collective.
    /// </summary>
    /// <param name="models">The data-parallel models that the loop trains, in the same order on every rank; at least one.</param>
    /// <param name="body">The loop.</param>
    /// <param name="throwOnEarlyTermination">True: as soon as one rank is out of data, all throw. <value>Default false.</value></param>
    /// <param name="divideByInitialWorldSize">
    /// True: sums are divided by the number of all ranks, so that each sample weighs the same throughout the epoch. False: by the number of ranks that still train.
    /// <value>Default true.</value>
    /// </param>
    /// <exception cref="InvalidOperationException">A rank was out of data, and that was to end all.</exception>
    /// <exception cref="ArgumentException">No model, or one twice; or the ranks that still train were to be the divisor of a model with a communication hook.</exception>
    public static void Run(IReadOnlyList<IDistributedDataParallel> models, Action body, bool throwOnEarlyTermination = false, bool divideByInitialWorldSize = true)
    {
        ArgumentNullException.ThrowIfNull(models);
        RunOver([.. models.Select(model => model.Reducer)], body, throwOnEarlyTermination, divideByInitialWorldSize);
    }

    internal static void RunOver(IReadOnlyList<GradientReducer> reducers, Action body, bool throwOnEarlyTermination, bool divideByInitialWorldSize)
    {
        ArgumentNullException.ThrowIfNull(body);
        if (reducers.Count == 0)
            throw new ArgumentException("The join context manager requires at least one joinable: pass the data-parallel models that the loop trains.", nameof(reducers));
        if (reducers.Distinct().Count() != reducers.Count)
            throw new ArgumentException("A model was passed twice to Join.", nameof(reducers));
        if (!divideByInitialWorldSize && reducers.FirstOrDefault(reducer => reducer.HasCommunicationHook) is { } hooked)
            throw new ArgumentException(
                $"Join(divideByInitialWorldSize: false): the model {hooked.ModuleName} has a communication hook, which does its own division by the number of all ranks. Use divideByInitialWorldSize: true, or no hook.",
                nameof(divideByInitialWorldSize));
        var session = new JoinSession(reducers, throwOnEarlyTermination, divideByInitialWorldSize);
        try
        {
            body();
            session.KeepCompany();
        }
        catch (Exception e)
        {
            session.Abort(e);
            throw;
        }
        finally
        {
            session.Dispose();
        }
    }
}
