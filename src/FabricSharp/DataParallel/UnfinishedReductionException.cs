namespace FabricSharp.DataParallel;

/// <summary>
/// Parameters of the model got no gradient in a backward pass although every parameter was expected to take part, so that the
/// gradients of the ranks could not be averaged. Typical: a branch that this step did not take, an expert that no sample was routed to,
/// a head that the loss ignores. Thrown on every rank at the next forward pass or at <c>optimizer.step()</c>, whichever comes first:
/// stepping on gradients that were not averaged would make the replicas diverge without a word.
/// </summary>
public sealed class UnfinishedReductionException : InvalidOperationException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">The full message.</param>
    /// <param name="rank">The rank that throws it.</param>
    /// <param name="parameterIndices">Positions of the parameters, in the order of <c>named_parameters()</c> without frozen ones.</param>
    /// <param name="parameterNames">Their full dotted names.</param>
    public UnfinishedReductionException(string message, int rank, IReadOnlyList<int> parameterIndices, IReadOnlyList<string> parameterNames)
        : base(message)
    {
        Rank = rank;
        ParameterIndices = parameterIndices;
        ParameterNames = parameterNames;
    }

    /// <summary>The rank that throws.</summary>
    public int Rank { get; }

    /// <summary>Positions of the parameters that got no gradient on some rank, in the order of <c>named_parameters()</c> without frozen ones.</summary>
    public IReadOnlyList<int> ParameterIndices { get; }

    /// <summary>Full dotted names of the parameters that got no gradient on some rank.</summary>
    public IReadOnlyList<string> ParameterNames { get; }
}
