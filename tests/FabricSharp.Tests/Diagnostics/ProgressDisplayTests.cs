using FabricSharp.Diagnostics;
using FabricSharp.Tests.Loggers;

namespace FabricSharp.Tests.Diagnostics;

public class ProgressDisplayTests
{
    [Fact]
    public void Advance_Terminal_WritesOneLineOver()
    {
        using var output = new StringWriter();
        Run(output, isTerminal: true, width: 80, "a long note", "short");
        Assert.Equal(
            "\repoch: 1/4 (25 %), 1/s, 0:03 left, a long note\repoch: 2/4 (50 %), 1/s, 0:02 left, short      \repoch: 3/4 (75 %), 1/s, 0:01 left, short"
            + "\repoch: 4/4 (100 %), 1/s, 0:04 taken, short\repoch: 4/4 (100 %), 1/s, 0:04 taken, short" + Environment.NewLine,
            output.ToString());
    }

    [Fact]
    public void Advance_NarrowTerminal_NeverWraps()
    {
        using var output = new StringWriter();
        Run(output, isTerminal: true, width: 20, "a long note", "short");
        Assert.All(output.ToString().TrimEnd().Split('\r').Skip(1), line => Assert.True(line.Length <= 19, line));
    }

    [Fact]
    public void Advance_Pipe_WritesWholeLinesAtTheInterval()
    {
        using var output = new StringWriter();
        Run(output, isTerminal: false, width: 0, "a\nb");
        Assert.Equal("epoch: 2/4 (50 %), 1/s, 0:02 left, a b\nepoch: 4/4 (100 %), 1/s, 0:04 taken, a b\nepoch: 4/4 (100 %), 1/s, 0:04 taken, a b\n", output.ToString().ReplaceLineEndings("\n"));
    }

    [Theory]
    [InlineData(0, 1234567, "1234567, 1234567/s, 0:01 taken")]
    [InlineData(4000000, 9876, "9876/4000000 (0 %), 9876/s, 6:44 left")]
    [InlineData(1000000, 2, "2/1000000 (0 %), 2/s, 138:53:19 left")]
    public void Dispose_Always_ShowsTheLastState(long total, long steps, string expected)
    {
        using var output = new StringWriter();
        var time = new ManualTime(DateTimeOffset.UnixEpoch);
        var progress = new ProgressDisplay(output, false, () => 0, total, "", null, time);
        time.Advance(TimeSpan.FromSeconds(1));
        progress.Advance(steps);
        progress.Dispose();
        progress.Dispose();
        Assert.Equal(expected + Environment.NewLine, output.ToString());
    }

    [Fact]
    public void Advance_OtherRanks_WritesNothing()
    {
        using var fabric = new Fabric(accelerator: "cpu", devices: 2, strategy: "ddp_notebook");
        var text = StandardError.Of(() => fabric.Launch(f =>
        {
            using var progress = new ProgressDisplay(f, 2, $"rank {f.GlobalRank}");
            progress.Advance(2);
        }));
        Assert.Contains("rank 0: 2/2 (100 %)", text, StringComparison.Ordinal);
        Assert.DoesNotContain("rank 1", text, StringComparison.Ordinal);
    }

    private static void Run(StringWriter output, bool isTerminal, int width, params string[] notes)
    {
        var time = new ManualTime(DateTimeOffset.UnixEpoch);
        using var progress = new ProgressDisplay(output, isTerminal, () => width, 4, "epoch", isTerminal ? null : TimeSpan.FromSeconds(2), time);
        for (var step = 0; step < 4; step++)
        {
            time.Advance(TimeSpan.FromSeconds(1));
            progress.Advance(note: notes.ElementAtOrDefault(step));
        }
    }
}
