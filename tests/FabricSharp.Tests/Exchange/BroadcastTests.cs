using static TorchSharp.torch;

namespace FabricSharp.Tests.Exchange;

/// <summary>Fabric.Broadcast of tensors, values, and collections of both.</summary>
public class BroadcastTests
{
    [Fact]
    public void Broadcast_TensorOfTheSameShape_IsOverwritten() => Ranks.Run(2, fabric =>
    {
        var own = full(3, fabric.GlobalRank, ScalarType.Int32);
        Assert.Same(own, fabric.Broadcast(own, src: 1));
        Assert.Equal([1, 1, 1], own.data<int>().ToArray());
    });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Broadcast_TensorOfUnknownShape_Arrives(bool isNull) => Ranks.Run(3, fabric =>
    {
        var others = isNull ? null : zeros(1, ScalarType.Int64);
        var all = fabric.Broadcast(fabric.GlobalRank == 2 ? tensor(new double[,] { { 1, 2, 3 }, { 4, 5, double.NaN } }) : others, src: 2);
        Assert.Equal([2, 3], all.shape);
        Assert.Equal([1, 2, 3, 4, 5, double.NaN], all.data<double>().ToArray());
        Assert.True(others is null || others.item<long>() == 0);
    });

    [Fact]
    public void Broadcast_RecordWithTensors_ArrivesWhole() => Ranks.Run(2, fabric =>
    {
        var mine = fabric.GlobalRank == 0 ? new Vocabulary(["a", "b"], arange(6).reshape(2, 3), new() { ["x"] = ones(2, ScalarType.Bool), ["y"] = zeros(0) }) : null;
        var all = fabric.Broadcast(mine)!;
        Assert.Equal(["a", "b"], all.Words);
        Assert.Equal([0, 1, 2, 3, 4, 5], all.Table.data<long>().ToArray());
        Assert.Equal([2, 3], all.Table.shape);
        Assert.True(all.Extra["x"].all().item<bool>());
        Assert.Equal([0], all.Extra["y"].shape);
        Assert.Equal(fabric.GlobalRank == 0, ReferenceEquals(mine, all));
    });

    [Fact]
    public void Broadcast_ValuesBehindObject_ArePlain() => Ranks.Run(2, fabric =>
    {
        var values = fabric.Broadcast(fabric.GlobalRank == 0
            ? new Dictionary<string, object?> { ["step"] = 3, ["rate"] = 0.5, ["name"] = "x", ["on"] = true, ["none"] = null, ["t"] = ones(2), ["list"] = new object[] { 1, zeros(1) } }
            : null)!;
        Assert.Equal(3, Convert.ToInt64(values["step"], null));
        Assert.Equal(0.5, values["rate"]);
        Assert.Equal("x", values["name"]);
        Assert.Equal(true, values["on"]);
        Assert.Null(values["none"]);
        Assert.Equal([1, 1], Assert.IsAssignableFrom<Tensor>(values["t"]).data<float>().ToArray());
        Assert.IsAssignableFrom<Tensor>(((System.Collections.IList)values["list"]!)[1]);
    });

    [Fact]
    public void Broadcast_ListOfTensors_EachOfItsShape() => Ranks.Run(2, fabric =>
    {
        var all = fabric.Broadcast(fabric.GlobalRank == 1 ? new List<Tensor> { ones(2), zeros(1, 3) } : [], src: 1);
        Assert.Equal([2, 1, 3], all.SelectMany(tensor => tensor.shape));
    });

    [Fact]
    public void Broadcast_ValueThatIsNoJson_IsAnErrorOnEveryRank() => Ranks.Run(2, fabric =>
    {
        var e = Assert.Throws<ArgumentException>(() => fabric.Broadcast<Func<int>?>(fabric.GlobalRank == 0 ? () => 1 : null));
        Assert.Contains($"Rank {fabric.GlobalRank}", e.Message, StringComparison.Ordinal);
        Assert.Contains("rank 0 cannot write its value as JSON", e.Message, StringComparison.Ordinal);
        Assert.Equal(7, fabric.Broadcast(fabric.GlobalRank + 7)); // the ranks are in step
    });

    [Fact]
    public void Broadcast_NoSuchRank_SaysWhichThereAre() => Ranks.Run(2, fabric =>
        Assert.Contains("ranks 0 to 1", Assert.Throws<ArgumentOutOfRangeException>(() => fabric.Broadcast(1, src: 2)).Message, StringComparison.Ordinal));

    [Fact]
    public void Broadcast_OneProcess_IsTheValue()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var value = new List<int> { 1 };
        Assert.Same(value, fabric.Broadcast(value));
    }

    private sealed record Vocabulary(string[] Words, Tensor Table, Dictionary<string, Tensor> Extra);
}
