using System.Globalization;

namespace FabricSharp.Cli.Report;

/// <summary>What the recorded steps consisted of, one after the other: areas on top of each other, mean over the ranks.</summary>
internal static class StepLengths
{
    private const int Width = 1000, Height = 240;

    /// <summary>Slower steps are cut off, so that one does not flatten all others.</summary>
    private const double ShownShare = 0.98, MostMedians = 3;

    public static Html Of(ModelTimeline model)
    {
        var steps = model.Steady;
        var parts = new (string Kind, Func<RunStep, double> Value)[]
        {
            ("forward", step => step.Ranks.Average(rank => rank.Forward)),
            ("backward", step => step.Ranks.Average(rank => rank.Backward)),
            ("waiting", step => step.Ranks.Average(step.WaitForOthers)),
            ("exposed", step => step.Ranks.Average(rank => rank.Exposed - step.WaitForOthers(rank))),
            ("between", step => step.Between),
        };
        var lengths = steps.Select(step => parts.Sum(part => part.Value(step))).Order().ToList();
        var top = Math.Max(1, 1.1 * Math.Min(lengths[(int)(ShownShare * (lengths.Count - 1))], MostMedians * lengths[lengths.Count / 2]));
        var below = new double[steps.Count];
        var areas = new List<Html>();
        foreach (var (kind, value) in parts)
        {
            var above = below.Select((height, i) => height + value(steps[i])).ToArray();
            areas.Add(Html.Of($"<polygon class=\"{kind}\" points=\"{Outline(below, above, top)}\"/>"));
            below = above;
        }

        return Html.Of($"""
            <figure class="chart wide"><div class="plot"><div class="y"><span>{Text.Duration(top)}</span><span>0</span></div>
            <svg viewBox="0 0 {Width} {Height}" preserveAspectRatio="none" role="img" aria-label="parts of each step">{areas}</svg>
            <div class="x"><span>step {Text.Count(steps[0].Number)}</span><span>{Text.Count(steps[^1].Number)}</span></div></div></figure>
            """);
    }

    /// <summary>Flat over each step: steps have lengths, not slopes.</summary>
    private static string Outline(double[] below, double[] above, double top)
    {
        var column = Width / (double)below.Length;
        var upper = above.SelectMany((height, i) => new[] { Point(i * column, height), Point((i + 1) * column, height) });
        var lower = below.SelectMany((height, i) => new[] { Point(i * column, height), Point((i + 1) * column, height) }).Reverse();
        return string.Join(' ', upper.Concat(lower));

        string Point(double x, double height) => string.Create(CultureInfo.InvariantCulture, $"{x:0.##},{Height - Height * Math.Min(height, top) / top:0.##}");
    }
}
