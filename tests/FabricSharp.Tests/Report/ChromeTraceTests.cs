using System.Text.Json;
using FabricSharp.Cli.Report;

namespace FabricSharp.Tests.Report;

/// <summary>The rules of the trace-event format.</summary>
public sealed class ChromeTraceTests
{
    private static readonly string[] Kinds = ["X", "M"];

    [Fact]
    public void Events_Always_HaveWhatTheFormatAsksFor()
    {
        var events = Events(new ConstructedRun { Steps = 5, Name = "Net \"<&\u202e\n" });
        Assert.All(events, one =>
        {
            Assert.Contains(one.GetProperty("ph").GetString(), Kinds);
            Assert.InRange(one.GetProperty("pid").GetInt32(), 0, 1);
            if (one.GetProperty("ph").GetString() == "X")
                Assert.True(one.GetProperty("ts").GetDouble() >= 0 && one.GetProperty("dur").GetDouble() >= 0 && one.GetProperty("tid").GetInt32() >= 0);
        });
        var names = events.Where(one => one.GetProperty("name").GetString() == "process_name").Select(one => one.GetProperty("args").GetProperty("name").GetString());
        Assert.Equal(["rank 0", "rank 1"], names);
    }

    [Fact]
    public void Slices_OfALane_BeginInOrderAndNest()
    {
        var lanes = Events(new ConstructedRun { Steps = 5, Late = (_, rank) => rank * 100_000, Buffers = 2, BuffersNs = 5000 })
            .Where(one => one.GetProperty("ph").GetString() == "X").GroupBy(one => (one.GetProperty("pid").GetInt32(), one.GetProperty("tid").GetInt32())).ToList();
        Assert.True(lanes.Count >= 4);
        foreach (var lane in lanes)
        {
            var open = new Stack<double>();
            var last = 0.0;
            foreach (var slice in lane)
            {
                var (begin, end) = (slice.GetProperty("ts").GetDouble(), slice.GetProperty("ts").GetDouble() + slice.GetProperty("dur").GetDouble());
                Assert.True(begin >= last, "A slice begins before the one that stands before it.");
                last = begin;
                while (open.TryPeek(out var top) && top <= begin + 1e-6)
                    open.Pop();
                Assert.True(!open.TryPeek(out var around) || end <= around + 1e-6, "Slices cross.");
                open.Push(end);
            }
        }
    }

    [Fact]
    public void Slices_OfEachStepAndRank_AreThere()
    {
        var slices = Events(new ConstructedRun { Steps = 3 }).Where(one => one.GetProperty("ph").GetString() == "X").ToList();
        foreach (var name in new[] { "forward", "backward", "control exchange", "wait", "bucket 0, piece 0", "bucket 3, piece 3" })
            Assert.Equal(6, slices.Count(slice => slice.GetProperty("name").GetString() == name));
        Assert.Equal(1 << 20, slices.First(slice => slice.GetProperty("name").GetString() == "bucket 0, piece 0").GetProperty("args").GetProperty("bytes").GetInt32());
        var forwards = slices.Where(slice => slice.GetProperty("name").GetString() == "forward").Select(slice => slice.GetProperty("ts").GetDouble());
        Assert.Equal([0, 0, 20000, 20000, 40000, 40000], forwards.Order()); // rank 1's clock is brought in line
    }

    private static List<JsonElement> Events(ConstructedRun run)
    {
        using var stream = new MemoryStream();
        ChromeTrace.Write(stream, [run.Timeline()]);
        return [.. JsonDocument.Parse(stream.ToArray()).RootElement.GetProperty("traceEvents").EnumerateArray()];
    }
}
