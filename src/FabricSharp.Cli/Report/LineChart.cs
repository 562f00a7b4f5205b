using System.Globalization;

namespace FabricSharp.Cli.Report;

/// <summary>A curve as SVG that stretches with the page; its labels are text beside it, which does not.</summary>
internal static class LineChart
{
    private const int Width = 1000, Height = 240, MostPoints = 800;

    public static Html Of(Curve curve)
    {
        var points = Thinned(curve.Points);
        var (low, high) = (points.Min(point => point.Value), points.Max(point => point.Value));
        var (first, last) = (points[0].Step, points[^1].Step);
        var margin = high > low ? 0.06 * (high - low) : Math.Max(1e-9, Math.Abs(high) * 0.05);
        double X(double step) => last > first ? Width * (step - first) / (last - first) : Width / 2.0;
        double Y(double value) => Height - Height * (value - low + margin) / (high - low + 2 * margin);
        var line = string.Join(' ', points.Select(point => string.Create(CultureInfo.InvariantCulture, $"{X(point.Step):0.#},{Y(point.Value):0.#}")));
        return Html.Of($"""
            <figure class="chart"><figcaption><b>{curve.Name}</b><span>last {Text.Number(curve.Points[^1].Value)}, lowest {Text.Number(low)}, highest {Text.Number(high)}</span></figcaption>
            <div class="plot"><div class="y"><span>{Text.Number(high)}</span><span>{Text.Number(low)}</span></div>
            <svg viewBox="0 0 {Width} {Height}" preserveAspectRatio="none" role="img" aria-label="{curve.Name} by step"><path class="grid" d="M0 {Y(high)}H{Width}M0 {Y((low + high) / 2)}H{Width}M0 {Y(low)}H{Width}"/><polyline class="line" points="{line}"/></svg>
            <div class="x"><span>step {Text.Number(first)}</span><span>{Text.Number(last)}</span></div></div></figure>
            """);
    }

    /// <summary>The lowest and highest of each of some neighbourhoods, so that no peak is lost.</summary>
    private static List<(double Step, double Value)> Thinned(List<(double Step, double Value)> points)
    {
        var sorted = points.OrderBy(point => point.Step).ToList();
        if (sorted.Count <= MostPoints)
            return sorted;
        return [.. sorted.Chunk((2 * sorted.Count + MostPoints - 1) / MostPoints)
            .SelectMany(chunk => new[] { chunk.MinBy(point => point.Value), chunk.MaxBy(point => point.Value) }.Distinct().OrderBy(point => point.Step))];
    }
}
