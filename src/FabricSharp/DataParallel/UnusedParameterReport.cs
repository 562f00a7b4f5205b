using System.Collections;

namespace FabricSharp.DataParallel;

/// <summary>How often one parameter took no part in a synchronised backward pass.</summary>
/// <param name="Name">Full dotted name.</param>
/// <param name="UnusedHere">Passes in which this rank had no gradient for it.</param>
/// <param name="UnusedSomewhere">Passes in which at least one rank had none.</param>
/// <param name="UnusedEverywhere">Passes in which no rank had one: its <c>grad</c> was left alone.</param>
public sealed record UnusedParameter(string Name, long UnusedHere, long UnusedSomewhere, long UnusedEverywhere);

/// <summary>Which parameters went unused, over all synchronised backward passes so far. A snapshot.</summary>
public sealed class UnusedParameterReport
{
    internal UnusedParameterReport(long passes, IReadOnlyList<UnusedParameter> parameters)
    {
        Passes = passes;
        Parameters = parameters;
    }

    /// <summary>The number of synchronised backward passes.</summary>
    public long Passes { get; }

    /// <summary>Every parameter that was unused at least once on some rank, in model order.</summary>
    public IReadOnlyList<UnusedParameter> Parameters { get; }
}

/// <summary>Counts what the control messages say. Not thread-safe.</summary>
internal sealed class UnusedParameterCounter(IReadOnlyList<string> names)
{
    private readonly long[] _here = new long[names.Count];
    private readonly long[] _somewhere = new long[names.Count];
    private readonly long[] _everywhere = new long[names.Count];
    private long _passes;

    public void Add(BitArray usedHere, BitArray usedByAll, BitArray usedByAny)
    {
        _passes++;
        if (usedByAll.HasAllSet())
            return;
        for (var i = 0; i < names.Count; i++)
        {
            if (usedByAll[i])
                continue;
            _somewhere[i]++;
            if (!usedHere[i])
                _here[i]++;
            if (!usedByAny[i])
                _everywhere[i]++;
        }
    }

    public UnusedParameterReport Report() => new(
        _passes,
        [.. Enumerable.Range(0, names.Count).Where(i => _somewhere[i] > 0).Select(i => new UnusedParameter(names[i], _here[i], _somewhere[i], _everywhere[i]))]);
}
