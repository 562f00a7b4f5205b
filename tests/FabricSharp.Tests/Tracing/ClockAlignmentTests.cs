using FabricSharp.Tests.Collectives;
using FabricSharp.Tracing;

namespace FabricSharp.Tests.Tracing;

public sealed class ClockAlignmentTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(7_000_000_000)]
    [InlineData(-123_456_789)]
    public void Measure_ClocksThatDiffer_BoundsTheDifference(long skew)
    {
        var results = Measure(skew, (1, 2));
        var (zeroOfRoot, _, run) = results[0];
        var (zero, offset, otherRun) = results[1];
        var truth = zero - skew - zeroOfRoot; // what has to be added to rank 1's times
        Assert.Equal(new ClockOffset(0, 0), results[0].Offset);
        Assert.Equal(run, otherRun);
        Assert.InRange(offset.OffsetNs - truth, -offset.UncertaintyNs - 1, offset.UncertaintyNs + 1);
        Assert.True(offset.UncertaintyNs > 0);
    }

    [Fact]
    public void Measure_OneClock_IsExact()
    {
        var results = Measure(0, (5, 5));
        Assert.Equal(new ClockOffset(results[1].Zero - results[0].Zero, 0), results[1].Offset);
    }

    [Fact]
    public void Measure_SameIdButClocksThatDiffer_TrustsTheMeasurement()
    {
        var results = Measure(7_000_000_000, (5, 5));
        Assert.True(results[1].Offset.UncertaintyNs > 0);
        Assert.True(Math.Abs(results[1].Offset.OffsetNs - (results[1].Zero - 7_000_000_000 - results[0].Zero)) <= results[1].Offset.UncertaintyNs + 1);
    }

    private static (long Zero, ClockOffset Offset, ulong Run)[] Measure(long skewOfOne, (long Zero, long One) ids)
    {
        const int Size = 2;
        var results = new (long, ClockOffset, ulong)[Size];
        var board = new byte[ClockAlignment.MessageBytes * Size];
        using var barrier = new Barrier(Size);
        RankThreads.Run(Size, rank => results[rank] = ClockAlignment.Measure(
            rank,
            Size,
            (mine, all) =>
            {
                mine.CopyTo(board.AsSpan(rank * ClockAlignment.MessageBytes));
                Assert.True(barrier.SignalAndWait(GroupOfThreads.Limit));
                board.CopyTo(all);
                Assert.True(barrier.SignalAndWait(GroupOfThreads.Limit));
            },
            () => ClockAlignment.Now() + (rank == 1 ? skewOfOne : 0),
            rank == 0 ? ids.Zero : ids.One));
        return results;
    }
}
