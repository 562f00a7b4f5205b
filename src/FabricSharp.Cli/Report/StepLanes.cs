using FabricSharp.Tracing;

namespace FabricSharp.Cli.Report;

/// <summary>One step as lanes: for each rank what it computes, and below it the buckets as bars. Boxes in per cent of the width: text keeps its size on any screen.</summary>
internal static class StepLanes
{
    /// <summary>More rows of bars than this say nothing more.</summary>
    private const int MostRows = 8;

    public static Html Of(ModelTimeline model, RunStep step)
    {
        var next = model.Steps.FirstOrDefault(other => other.Previous == step);
        var gap = next is null ? 0 : Math.Max(0, next.Begin - step.End);
        var showsGap = next is not null && gap < 1.5 * (step.End - step.Begin);
        var window = new Window(step.Begin, showsGap ? next!.Ranks.Max(rank => rank.Begin) : step.End);
        return Html.Of($"""
            <div class="lanes"><div class="axis">{window.Ticks().Select(tick => Html.Of($"<span style=\"left:{window.Left(tick)}%\">{(tick == window.Begin ? "0" : Text.Duration(tick - window.Begin))}</span>"))}</div>
            {step.Ranks.Select(rank => Lane(model, step, rank, window, showsGap ? next!.Ranks.Single(one => one.Rank == rank.Rank) : null))}</div>
            {(next is not null && !showsGap ? Html.Of($"<p class=\"note\">The next step begins {Text.Duration(gap)} later.</p>") : Html.Empty)}
            """);
    }

    private static Html Lane(ModelTimeline model, RunStep step, RankStep rank, Window window, RankStep? next)
    {
        var bars = Bars(model, rank).ToList();
        var rows = LaneAssignment.Assign(bars, bar => (bar.Begin, bar.End));
        if (rows.Count > MostRows)
            rows = [.. rows.Take(MostRows - 1), [.. rows.Skip(MostRows - 1).SelectMany(row => row).OrderBy(bar => bar.Begin)]];
        return Html.Of($"""
            <div class="lane"><div class="who">rank {rank.Rank}</div><div class="tracks"><div class="track compute">{Computing(step, rank, window, next)}</div>{rows.Select(row => Html.Of($"<div class=\"track bars\">{row.Select(bar => Draw(bar, rank, window))}</div>"))}</div></div>
            """);
    }

    private static IEnumerable<Html> Computing(RunStep step, RankStep rank, Window window, RankStep? next)
    {
        yield return Box("forward", "forward", rank[StepMoment.ForwardBegin], rank[StepMoment.ForwardEnd], window);
        yield return Box("buffers", "buffers broadcast", rank[StepMoment.ForwardBegin], rank[StepMoment.BuffersEnd], window);
        yield return Box("backward", "backward", rank[StepMoment.BackwardBegin], rank[StepMoment.BackwardEnd], window);
        var end = rank[StepMoment.BackwardEnd];
        var wait = step.WaitForOthers(rank);
        if (wait > 0)
            yield return Box("waiting", "waiting for a later rank", end, end + wait, window);
        yield return Box("exposed", "exposed communication", end + wait, rank.End, window);
        if (next is not null)
            yield return Box("between", "between steps", rank.End, next.Begin, window);
    }

    private static Html Box(string kind, string name, long? begin, long? end, Window window)
    {
        if (begin is not { } from || end is not { } to || to <= from)
            return Html.Empty;
        var width = window.Width(from, to);
        return Html.Of($"<i class=\"{kind}\" style=\"left:{window.Left(from)}%;width:{width}%\" title=\"{name}: {Text.Duration(to - from)}\">{(width > 12 ? name : "")}</i>");
    }

    private static IEnumerable<Bar> Bars(ModelTimeline model, RankStep rank)
    {
        var layout = model.LayoutOf(rank);
        return rank.Pieces.Where(piece => piece.Launched is not null).Select(piece =>
            new Bar(piece, layout.Pieces[piece.Number], piece.Ready is { } ready && ready <= piece.Launched ? ready : piece.Launched!.Value, Math.Max(piece.Done ?? rank.End, piece.Launched!.Value), NamesOf(model, layout.Pieces[piece.Number])))
            .OrderBy(bar => bar.Begin);
    }

    private static string NamesOf(ModelTimeline model, TracedPiece piece) => Text.Few([.. piece.Parameters.Select(i => model.Model.Parameters[i].Name)], 4);

    private static Html Draw(Bar bar, RankStep rank, Window window)
    {
        var launched = bar.Span.Launched!.Value;
        var hidden = Math.Clamp(rank[StepMoment.BackwardEnd] ?? launched, launched, bar.End);
        var title = $"bucket {bar.Piece.Bucket}, {Text.Bytes(bar.Span.Bytes)} ({bar.Names}): queued {Text.Duration(launched - bar.Begin)}, averaged in {Text.Duration(bar.End - launched)}";
        return Html.Of($"""
            {Part("queued", bar.Begin, launched)}{Part("hidden", launched, hidden)}{Part("exposed", hidden, bar.End)}
            """);

        Html Part(string kind, long begin, long end) =>
            end <= begin ? Html.Empty : Html.Of($"<i class=\"{kind}\" style=\"left:{window.Left(begin)}%;width:{window.Width(begin, end)}%\" title=\"{title}\"></i>");
    }

    private sealed record Bar(PieceSpan Span, TracedPiece Piece, long Begin, long End, string Names);

    private readonly record struct Window(long Begin, long End)
    {
        private const int MostTicks = 6;

        public double Left(long time) => 100.0 * Math.Clamp(time - Begin, 0, End - Begin) / Math.Max(1, End - Begin);

        public double Width(long begin, long end) => Math.Max(0.08, Left(end) - Left(begin));

        public IEnumerable<long> Ticks()
        {
            var length = Math.Max(1, End - Begin);
            var unit = Math.Pow(10, Math.Floor(Math.Log10(length)));
            var step = (long)Math.Max(1, new[] { 0.1, 0.2, 0.5, 1, 2 }.Select(factor => factor * unit).First(size => length / size <= MostTicks));
            for (var tick = 0L; tick <= length * 0.94; tick += step)
                yield return Begin + tick;
        }
    }
}
