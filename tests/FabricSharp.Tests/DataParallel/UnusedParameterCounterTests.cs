using System.Collections;
using FabricSharp.DataParallel;

namespace FabricSharp.Tests.DataParallel;

public class UnusedParameterCounterTests
{
    [Fact]
    public void Report_NothingAdded_IsEmpty()
    {
        var report = new UnusedParameterCounter(["a", "b"]).Report();
        Assert.Equal(0, report.Passes);
        Assert.Empty(report.Parameters);
    }

    [Fact]
    public void Report_AfterSeveralPasses_CountsHereSomewhereAndEverywhere()
    {
        var counter = new UnusedParameterCounter(["always", "here", "elsewhere", "nowhere"]);
        counter.Add(usedHere: Bits(1, 0, 1, 0), usedByAll: Bits(1, 0, 0, 0), usedByAny: Bits(1, 1, 1, 0));
        counter.Add(usedHere: Bits(1, 1, 1, 1), usedByAll: Bits(1, 1, 1, 1), usedByAny: Bits(1, 1, 1, 1));
        counter.Add(usedHere: Bits(1, 0, 1, 0), usedByAll: Bits(1, 0, 1, 0), usedByAny: Bits(1, 1, 1, 0));
        var report = counter.Report();
        Assert.Equal(3, report.Passes);
        Assert.Equal([new("here", 2, 2, 0), new("elsewhere", 0, 1, 0), new("nowhere", 2, 2, 2)], report.Parameters);
    }

    [Fact]
    public void Report_TakenBefore_IsASnapshot()
    {
        var counter = new UnusedParameterCounter(["a"]);
        counter.Add(Bits(0), Bits(0), Bits(0));
        var report = counter.Report();
        counter.Add(Bits(0), Bits(0), Bits(0));
        Assert.Equal((1, 1), (report.Passes, report.Parameters[0].UnusedEverywhere));
    }

    private static BitArray Bits(params int[] bits) => new(bits.Select(bit => bit != 0).ToArray());
}
