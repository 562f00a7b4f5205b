using static TorchSharp.torch;

namespace FabricSharp.Tests.Exchange;

/// <summary>Fabric.AllReduce over collections.</summary>
public class AllReduceTests
{
    [Theory]
    [InlineData("mean", 1.5)]
    [InlineData("avg", 1.5)]
    [InlineData("sum", 3)]
    public void AllReduce_Number_IsCombined(string op, double expected)
    {
        Assert.Equal([expected, expected], Ranks.Run(2, fabric => fabric.AllReduce(fabric.GlobalRank + 1.0, op)));
        Assert.Equal([expected, expected], Ranks.Run(2, fabric => fabric.AllReduce(fabric.GlobalRank + 1, op)));
        Assert.Equal([expected, expected], Ranks.Run(2, fabric => fabric.AllReduce(fabric.GlobalRank + 1L, op)));
        Assert.Equal([expected, expected], Ranks.Run(2, fabric => fabric.AllReduce(fabric.GlobalRank + 1f, op)));
    }

    [Fact]
    public void AllReduce_Metrics_KeepTypesAndOtherLeaves() => Ranks.Run(2, fabric =>
    {
        var rank = fabric.GlobalRank;
        var metrics = fabric.AllReduce(new Metrics($"rank {rank}", 1f + rank, [rank, 2.0 * rank], 10 + rank, rank == 0));
        Assert.Equal($"rank {rank}", metrics.Name);
        Assert.Equal(1.5f, metrics.Loss);
        Assert.Equal([0.5, 1], metrics.Parts);
        Assert.Equal(10, metrics.Count); // 10.5 cut off
        Assert.Equal(rank == 0, metrics.IsBest);
    });

    [Fact]
    public void AllReduce_NestedTensors_AreReducedInPlace() => Ranks.Run(2, fabric =>
    {
        var leaf = full(3, fabric.GlobalRank + 1.0);
        var tree = new Dictionary<string, List<(Tensor, int)>> { ["a"] = [(leaf, 5 * fabric.GlobalRank)] };
        var reduced = fabric.AllReduce(tree, "sum");
        Assert.Same(leaf, reduced["a"][0].Item1);
        Assert.Equal([3, 3, 3], leaf.data<float>().ToArray());
        Assert.Equal(5, reduced["a"][0].Item2);
    });

    [Fact]
    public void AllReduce_NumbersOfEveryType_KeepIt() => Ranks.Run(2, fabric =>
    {
        object[] numbers = [(byte)1, (sbyte)1, (short)1, (ushort)1, 1, 1u, 1L, 1ul, 1f, 1d];
        object[] sums = [(byte)2, (sbyte)2, (short)2, (ushort)2, 2, 2u, 2L, 2ul, 2f, 2d];
        Assert.Equal(sums, fabric.AllReduce(numbers, "sum"));
    });

    [Fact]
    public void AllReduce_OneProcess_ChangesNothing()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var data = new List<double> { 1 };
        Assert.Same(data, fabric.AllReduce(data));
        Assert.Equal(2.5, fabric.AllReduce(2.5));
    }

    [Fact]
    public void AllReduce_UnknownOperation_ListsThem()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        foreach (var call in new Action[] { () => fabric.AllReduce(1.0, "max"), () => fabric.AllReduce(new List<int> { 1 }, "max"), () => fabric.AllReduce(ones(1), "max") })
            Assert.Contains("\"mean\", \"avg\" and \"sum\"", Assert.Throws<ArgumentException>(call).Message, StringComparison.Ordinal);
    }

    private sealed record Metrics(string Name, float Loss, double[] Parts, int Count, bool IsBest);
}
