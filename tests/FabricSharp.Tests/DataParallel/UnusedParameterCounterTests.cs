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

    [Fact]
    public void ToString_SomethingUnused_IsATableOfShares()
    {
        var report = new UnusedParameterReport(4, [new("heads.b.weight", 3, 4, 1), new("bias", 0, 2, 0)]);
        Assert.Equal(
            "unused in 4 passes    here    some     all\n" +
            "heads.b.weight       75.0%  100.0%   25.0%\n" +
            "bias                  0.0%   50.0%    0.0%",
            report.ToString());
        Assert.Equal(["heads.b", ""], report.Parameters.Select(parameter => parameter.Module));
    }

    [Fact]
    public void ToString_NothingUnused_SaysSo() =>
        Assert.Equal("Every parameter was used on every rank in each of 7 backward passes.", new UnusedParameterReport(7, []).ToString());

    [Fact]
    public void ToJson_SomethingUnused_HasCountsAndShares()
    {
        var json = System.Text.Json.JsonDocument.Parse(new UnusedParameterReport(4, [new("heads.b.weight", 3, 4, 1)]).ToJson()).RootElement;
        Assert.Equal(4, json.GetProperty("passes").GetInt64());
        var parameter = json.GetProperty("parameters")[0];
        Assert.Equal("heads.b", parameter.GetProperty("module").GetString());
        Assert.Equal(3, parameter.GetProperty("here").GetInt64());
        Assert.Equal(0.25, parameter.GetProperty("share_everywhere").GetDouble());
    }

    private static BitArray Bits(params int[] bits) => new(bits.Select(bit => bit != 0).ToArray());
}
