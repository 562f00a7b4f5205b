using System.Text.RegularExpressions;
using FabricSharp.Cli.Report;

namespace FabricSharp.Tests.Report;

public sealed partial class ReportPageTests
{
    private static readonly MetricsFile Metrics = new("logs/version_0/metrics.csv", [new Curve("train_loss", [(0, 2), (1, 1)]), new Curve("samples_per_sec", [(0, 100), (1, 110)])]);

    [Fact]
    public void Page_OfARun_HasEachPart()
    {
        var page = PageOf(new ConstructedRun { FindUnused = true, ExposedNs = 4_000_000, Uses = (step, rank, parameter) => parameter != 1 || step % 2 == rank });
        foreach (var text in new[] { "2 ranks over shm", "Communication is exposed", ">A step<", "rank 0", "rank 1", "Unused parameters", ">branch<", "Buckets", "4 MiB", "train_loss", "samples_per_sec", "typical", "prefers-color-scheme:dark", "width=device-width" })
            Assert.Contains(text, page, StringComparison.Ordinal);
        Assert.Equal(120, Regex.Matches(page, "<rect class=\"(some|none|used)\"").Sum(match => int.Parse(Regex.Match(page[match.Index..], "width=\"(\\d+)\"").Groups[1].Value, null)));
    }

    [Fact]
    public void Page_Always_NeedsNothingFromElsewhereAndHasNoScript()
    {
        var page = PageOf(new ConstructedRun());
        Assert.DoesNotMatch("(?i)<script|<link|<img|<iframe|@import|url\\(|https?:|javascript:|\\son\\w+=", page);
        Assert.Contains("default-src 'none'", page, StringComparison.Ordinal);
    }

    [Fact]
    public void Page_NamesOfStrangers_AreEscaped()
    {
        const string Bad = "<script>alert('x')</script>\"&\u0001";
        var page = PageOf(
            new ConstructedRun { Name = Bad, Parameters = [Bad + ".weight", Bad + "2.weight", "\" onload=\"x.y"], FindUnused = true, Uses = (step, _, parameter) => (step + parameter) % 2 == 0, Failure = Bad },
            new MetricsFile("x/" + Bad, [new Curve(Bad + "loss", [(0, 1)])]));
        Assert.DoesNotContain("<script", page, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("\" onload=", page, StringComparison.Ordinal);
        Assert.DoesNotContain('\u0001', page);
        Assert.Contains("&lt;script&gt;", page, StringComparison.Ordinal);
    }

    [Fact]
    public void Page_Tags_AreBalanced()
    {
        var open = new Stack<string>();
        foreach (Match tag in Tag().Matches(PageOf(new ConstructedRun { FindUnused = true, Uses = (step, _, parameter) => parameter == 0 || step % 3 == 0 })))
        {
            var name = tag.Groups[2].Value;
            if (name is "meta" or "input" || tag.Value.EndsWith("/>", StringComparison.Ordinal))
                continue;
            if (tag.Groups[1].Value.Length == 0)
                open.Push(name);
            else
                Assert.Equal(open.Pop(), name);
        }

        Assert.Empty(open);
    }

    [Fact]
    public void Page_OfOneStep_IsMadeWithoutAdvice() => Assert.Contains("too few to say anything", PageOf(new ConstructedRun { Steps = 1, Ranks = 1 }), StringComparison.Ordinal);

    [Fact]
    public void Page_OfNoStep_SaysSo() => Assert.Contains("No step was completed on all ranks.", PageOf(new ConstructedRun { Steps = 0 }), StringComparison.Ordinal);

    [Fact]
    public void Run_MissingAndForeignFiles_AreSaid()
    {
        var whole = new ConstructedRun { Ranks = 3 };
        var run = RecordedRun.Of("folder", [whole.File(0), whole.File(2), whole.File(1) with { Run = "other", Started = DateTime.UnixEpoch }]);
        Assert.Equal([0, 2], run.Ranks.Select(rank => rank.Rank));
        Assert.Contains("There is no file of rank 1", run.Warnings[0], StringComparison.Ordinal);
        Assert.Contains("rank-1.trace.json", run.Warnings[1], StringComparison.Ordinal);
        Assert.Contains("There is no file of rank 1", ReportPage.Of(run, ModelTimeline.Of(run), null), StringComparison.Ordinal);
    }

    private static string PageOf(ConstructedRun run, MetricsFile? metrics = null)
    {
        var recorded = run.Record();
        return ReportPage.Of(recorded, ModelTimeline.Of(recorded), metrics ?? Metrics);
    }

    [GeneratedRegex("<(/?)([a-z][a-z0-9]*)[^>]*>")]
    private static partial Regex Tag();
}
