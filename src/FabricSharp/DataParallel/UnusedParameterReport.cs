using System.Collections;
using System.Globalization;
using System.Text.Json;

namespace FabricSharp.DataParallel;

/// <summary>How often one parameter took no part in a synchronised backward pass.</summary>
/// <param name="Name">Full dotted name.</param>
/// <param name="UnusedHere">Passes in which this rank had no gradient for it.</param>
/// <param name="UnusedSomewhere">Passes in which at least one rank had none.</param>
/// <param name="UnusedEverywhere">Passes in which no rank had one: its <c>grad</c> was left alone.</param>
public sealed record UnusedParameter(string Name, long UnusedHere, long UnusedSomewhere, long UnusedEverywhere)
{
    /// <summary>The dotted name of the module that owns it; empty for the model itself.</summary>
    public string Module => Name.LastIndexOf('.') is var dot and >= 0 ? Name[..dot] : "";
}

/// <summary>
/// Which parameters went unused, over all synchronised backward passes so far. A snapshot. <see cref="ToString"/> gives a table, <see cref="ToJson"/> JSON.
/// </summary>
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

    /// <summary>One object: <c>passes</c>, and <c>parameters</c> with <c>name</c>, <c>module</c>, and counts and shares of passes <c>here</c>, <c>somewhere</c>, <c>everywhere</c>.</summary>
    public string ToJson() => JsonSerializer.Serialize(new
    {
        passes = Passes,
        parameters = Parameters.Select(parameter => new
        {
            name = parameter.Name,
            module = parameter.Module,
            here = parameter.UnusedHere,
            somewhere = parameter.UnusedSomewhere,
            everywhere = parameter.UnusedEverywhere,
            share_here = Share(parameter.UnusedHere),
            share_somewhere = Share(parameter.UnusedSomewhere),
            share_everywhere = Share(parameter.UnusedEverywhere),
        }),
    });

    /// <summary>A line for each parameter, with the share of passes in which it was unused on this rank, on some rank, and on all.</summary>
    public override string ToString()
    {
        if (Parameters.Count == 0)
            return $"Every parameter was used on every rank in each of {Passes} backward passes.";
        var title = $"unused in {Passes} passes";
        var width = Math.Max(title.Length, Parameters.Max(parameter => parameter.Name.Length));
        var lines = Parameters.Select(parameter =>
            $"{parameter.Name.PadRight(width)}  {Percent(parameter.UnusedHere)}  {Percent(parameter.UnusedSomewhere)}  {Percent(parameter.UnusedEverywhere)}");
        return string.Join('\n', lines.Prepend($"{title.PadRight(width)}  {"here",6}  {"some",6}  {"all",6}"));
    }

    private string Percent(long count) => string.Create(CultureInfo.InvariantCulture, $"{100 * Share(count),5:F1}%");

    private double Share(long count) => Passes == 0 ? 0 : (double)count / Passes;
}

/// <summary>Counts what the control messages say. Not thread-safe.</summary>
internal sealed class UnusedParameterCounter(IReadOnlyList<string> names)
{
    private readonly long[] _here = new long[names.Count];
    private readonly long[] _somewhere = new long[names.Count];
    private readonly long[] _everywhere = new long[names.Count];
    private long _passes;

    /// <summary>What this rank used in the first pass.</summary>
    private BitArray? _first;

    /// <summary>Whether some rank has left some parameter unused in some pass.</summary>
    public bool IsAnyUnused { get; private set; }

    /// <summary>Whether this rank has used the same parameters in all passes, of which there was one at least.</summary>
    public bool IsUseConstant { get; private set; }

    public long Passes => _passes;

    public void Add(BitArray usedHere, BitArray usedByAll, BitArray usedByAny)
    {
        _first ??= new BitArray(usedHere);
        IsUseConstant = (_passes == 0 || IsUseConstant) && !new BitArray(_first).Xor(usedHere).HasAnySet();
        _passes++;
        if (usedByAll.HasAllSet())
            return;
        IsAnyUnused = true;
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
