using System.Globalization;

namespace FabricSharp.Cli.Report;

/// <summary>The page: one file without scripts, fonts or anything else from elsewhere.</summary>
internal static class ReportPage
{
    private const int BucketsShown = 64;

    public static string Of(RecordedRun run, IReadOnlyList<ModelTimeline> models, MetricsFile? metrics) => Html.Of($"""
        <!DOCTYPE html>
        <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
        <title>FabricSharp: {Text.Few([.. models.Select(model => model.Model.Name)])} on {run.WorldSize} ranks</title>
        <style>{new Html(Style())}</style></head><body><main>
        <header><h1>{Text.Few([.. models.Select(model => model.Model.Name)])}</h1><p>{run.WorldSize} {(run.WorldSize == 1 ? "rank" : "ranks")} over {run.Ranks[0].Backend}, set up on {run.Ranks[0].Started.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture)} UTC, run {run.Ranks[0].Run}</p></header>
        {run.Warnings.Select(warning => Html.Of($"<p class=\"warning\">{warning}</p>"))}
        {models.Select((model, i) => Section(model, i, models.Count > 1))}
        {Curves(metrics)}
        <footer>{(models[0].ClockUncertainty == 0 ? "The ranks share one clock." : $"Times of different ranks can be off by {Text.Duration(models[0].ClockUncertainty)}.")} The last 256 steps are recorded in full; totals are of all steps.</footer>
        </main></body></html>
        """).Markup;

    private static Html Section(ModelTimeline model, int number, bool isTitled)
    {
        var title = isTitled ? Html.Of($"<h2 class=\"model\">{model.Model.Name}</h2>") : Html.Empty;
        if (model.Steps.Count == 0)
            return Html.Of($"{title}<p class=\"warning\">No step was completed on all ranks.{(model.Unfinished.Count > 0 ? $" When the files were written, {Text.Ranks([.. model.Unfinished.Select(step => step.Rank)])} had begun step {Text.Count(model.Unfinished[0].Number)}." : "")}</p>");
        return Html.Of($"""
            {title}<section class="tiles">{Tiles(model)}</section>
            <section><h2>Advice</h2>{AdviceList(model)}</section>
            <section><h2>A step</h2><p class="legend">{Legend()}</p>{Tabs(model, number)}</section>
            <section><h2>All recorded steps</h2><p class="sub">Mean over the ranks, from step {Text.Count(model.Steady[0].Number)} on.</p><p class="legend">{Legend(forSteps: true)}</p>{StepLengths.Of(model)}</section>
            <section><h2>Ranks</h2><p class="sub">Mean of {Text.Count(model.Steady.Count)} steps.</p>{RankTable(model)}</section>
            <section><h2>Unused parameters</h2>{UnusedGrid.Of(model)}</section>
            <section><h2>Buckets</h2>{BucketTable(model)}</section>
            """);
    }

    private static IEnumerable<Html> Tiles(ModelTimeline model)
    {
        var totals = model.Model.Totals;
        var period = model.Period;
        var (communication, overlap) = (model.Mean(rank => rank.Communication), model.Mean(rank => rank.Overlap));
        var waiting = model.Steady.Average(step => step.Ranks.Average(step.WaitForOthers));
        var exposed = model.Mean(rank => rank.Exposed) - waiting;
        yield return Tile("Step", Text.Duration(period), $"median; {Text.Count(totals.Steps)} in all");
        yield return Tile("Communication", Text.Duration(communication), $"{Text.Percent(communication > 0 ? overlap / communication : 0)} hidden by the backward pass");
        yield return Tile("Exposed", Text.Duration(exposed), $"{Text.Percent(exposed / Math.Max(1, period))} of the step");
        yield return Tile("Waiting for later ranks", Text.Duration(waiting), $"{Text.Percent(waiting / Math.Max(1, period))} of the step");
        yield return Tile("Sent", Text.Bytes(totals.BytesSent), $"{Text.Bytes(totals.BytesSent / (double)Math.Max(1, totals.Steps))} a step and rank");
        yield return Tile("Saved", Text.Bytes(totals.BytesSaved), $"{Text.Percent(totals.BytesSaved / (double)Math.Max(1, totals.BytesSaved + totals.BytesSent))} not sent: no rank used them");
    }

    private static Html Tile(string title, string value, string note) => Html.Of($"<div class=\"tile\"><span>{title}</span><b>{value}</b><small>{note}</small></div>");

    private static Html AdviceList(ModelTimeline model)
    {
        var advice = Advisor.For(model);
        return advice.Count == 0
            ? Html.Of($"<p>{(model.Steady.Count < Advisor.FewestSteps ? $"None: {model.Steady.Count} recorded steps are too few to say anything." : "None: nothing stands out in these steps.")}</p>")
            : Html.Of($"<ul class=\"advice\">{advice.Select(one => Html.Of($"<li><b>{one.Title}</b><p>{one.Evidence}</p><p class=\"remedy\">{one.Remedy}</p></li>"))}</ul>");
    }

    private static Html Legend(bool forSteps = false) => Html.Join(
        new (string Kind, string Name, bool OfSteps)[]
        {
            ("forward", "forward", true), ("buffers", "buffers", false), ("backward", "backward", true), ("waiting", "waiting for a later rank", true),
            ("exposed", "exposed communication", true), ("between", "between steps", true), ("queued", "bucket ready, not launched", false), ("hidden", "bucket averaged, hidden", false),
        }.Where(item => item.OfSteps || !forSteps).Select(item => Html.Of($"<span class=\"{item.Kind}\">{item.Name}</span>")));

    /// <summary>Tabs of radio buttons: the page has no script.</summary>
    private static Html Tabs(ModelTimeline model, int number)
    {
        var steps = new[] { ("typical", model.Typical), ("slowest", model.Slowest), ("first recorded", model.Steps[0]), ("last", model.Steps[^1]) }
            .Where(tab => tab.Item2 is not null).DistinctBy(tab => tab.Item2).ToList();
        var inputs = steps.Select((tab, i) => Html.Of($"<input type=\"radio\" name=\"step-{number}\" id=\"step-{number}-{i}\"{new Html(i == 0 ? " checked" : "")}><label for=\"step-{number}-{i}\">{tab.Item1} <small>{Text.Count(tab.Item2!.Number)}</small></label>"));
        return Html.Of($"<div class=\"tabs\">{inputs}{steps.Select(tab => Html.Of($"<div class=\"panel\">{StepLanes.Of(model, tab.Item2!)}</div>"))}</div>");
    }

    private static Html RankTable(ModelTimeline model) => Html.Of($"""
        <div class="table"><table><thead><tr><th>rank</th><th>forward</th><th>backward</th><th>communication</th><th>hidden</th><th>exposed</th><th>waiting</th><th>exchange</th><th>sent a step</th><th>last to finish</th></tr></thead><tbody>
        {Enumerable.Range(0, model.Ranks.Count).Select(i => RankRow(model, i))}</tbody></table></div>
        """);

    private static Html RankRow(ModelTimeline model, int index)
    {
        var waiting = model.Steady.Average(step => step.WaitForOthers(step.Ranks[index]));
        double Mean(Func<RankStep, double> value) => model.Steady.Average(step => value(step.Ranks[index]));
        var last = model.Steady.Count(step => step.LatenessOf(step.Ranks[index]) == step.Ranks.Max(step.LatenessOf)) / (double)model.Steady.Count;
        return Html.Of($"""
            <tr><th>{model.Ranks[index].Rank}</th><td>{Text.Duration(Mean(rank => rank.Forward))}</td><td>{Text.Duration(Mean(rank => rank.Backward))}</td><td>{Text.Duration(Mean(rank => rank.Communication))}</td><td>{Text.Duration(Mean(rank => rank.Overlap))}</td><td>{Text.Duration(Mean(rank => rank.Exposed) - waiting)}</td><td>{Text.Duration(waiting)}</td><td>{Text.Duration(Mean(rank => rank.Exchange))}</td><td>{Text.Bytes(Mean(rank => rank.BytesSent))}</td><td>{Text.Percent(last)}</td></tr>
            """);
    }

    private static Html BucketTable(ModelTimeline model)
    {
        var last = model.Steps[^1].Ranks[0];
        var layout = model.LayoutOf(last);
        var steps = model.Steady.Where(step => step.Ranks[0].Layout == last.Layout).Select(step => step.Ranks[0]).ToList();
        var buckets = layout.Pieces.Select((piece, i) => (piece, i)).GroupBy(pair => pair.piece.Bucket).OrderBy(bucket => bucket.Key).ToList();
        var largest = Math.Max(1, buckets.Max(bucket => bucket.Sum(pair => pair.piece.Bytes)));
        return Html.Of($"""
            <p class="sub">In the order in which they are launched; limit {Text.Bytes(model.Model.BucketCapBytes)}. Times of rank {model.Ranks[0].Rank}, mean of {Text.Count(steps.Count)} steps.</p>
            <div class="table"><table class="buckets"><thead><tr><th>bucket</th><th class="wide">size</th><th>queued</th><th>averaged in</th><th>sent in</th><th class="wide">parameters</th></tr></thead><tbody>
            {buckets.Take(BucketsShown).Select(bucket => BucketRow(model, steps, bucket.Key, [.. bucket], largest))}</tbody></table></div>
            {(buckets.Count > BucketsShown ? Html.Of($"<p class=\"note\">And {buckets.Count - BucketsShown} more.</p>") : Html.Empty)}
            """);
    }

    private static Html BucketRow(ModelTimeline model, List<RankStep> steps, int bucket, List<(FabricSharp.Tracing.TracedPiece Piece, int Number)> pieces, long largest)
    {
        var bytes = pieces.Sum(pair => pair.Piece.Bytes);
        var spans = steps.SelectMany(step => pieces.Where(pair => pair.Number < step.Pieces.Count).Select(pair => step.Pieces[pair.Number])).Where(span => span.Launched is not null).ToList();
        var queued = spans.Where(span => span.Ready is not null).Select(span => (double)Math.Max(0, span.Launched!.Value - span.Ready!.Value)).DefaultIfEmpty(0).Average();
        var averaged = spans.Where(span => span.Done is not null).Select(span => (double)Math.Max(0, span.Done!.Value - span.Launched!.Value)).DefaultIfEmpty(0).Average();
        var sent = steps.Count == 0 ? 0 : steps.Count(step => pieces.Exists(pair => pair.Number < step.Pieces.Count && step.Pieces[pair.Number].Launched is not null)) / (double)steps.Count;
        var names = pieces.SelectMany(pair => pair.Piece.Parameters).Select(i => model.Model.Parameters[i].Name).ToList();
        return Html.Of($"""
            <tr><th>{bucket}</th><td class="size"><i style="width:{100.0 * bytes / largest}%"></i><span>{Text.Bytes(bytes)}{(pieces.Count > 1 ? $" in {pieces.Count} pieces" : "")}</span></td><td>{(spans.Count == 0 ? "–" : Text.Duration(queued))}</td><td>{(spans.Count == 0 ? "–" : Text.Duration(averaged))}</td><td>{Text.Percent(sent)}</td><td class="names" title="{Text.Few(names, 40)}">{Text.Few(names, 3)}</td></tr>
            """);
    }

    private static Html Curves(MetricsFile? metrics)
    {
        if (metrics is null || metrics.Curves.Count == 0)
            return Html.Empty;
        var ordered = metrics.Curves.OrderBy(curve => Importance(curve.Name)).ThenBy(curve => curve.Name, StringComparer.Ordinal).ToList();
        const int Shown = 24;
        return Html.Of($"""
            <section><h2>Curves</h2><p class="sub">From {Path.Combine(Path.GetFileName(Path.GetDirectoryName(Path.GetFullPath(metrics.Path))) ?? "", MetricsFile.FileName)}.</p><div class="charts">{ordered.Take(Shown).Select(LineChart.Of)}</div>
            {(ordered.Count > Shown ? Html.Of($"<p class=\"note\">And {ordered.Count - Shown} more.</p>") : Html.Empty)}</section>
            """);
    }

    /// <summary>Loss first, then throughput, then the rest.</summary>
    private static int Importance(string name) =>
        name.Contains("loss", StringComparison.OrdinalIgnoreCase) ? 0
        : name.Contains("per_sec", StringComparison.OrdinalIgnoreCase) || name.Contains("throughput", StringComparison.OrdinalIgnoreCase) ? 1 : 2;

    private static string Style()
    {
        using var stream = typeof(ReportPage).Assembly.GetManifestResourceStream("FabricSharp.Cli.Report.Style.css")!;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
