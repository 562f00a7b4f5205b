using static TorchSharp.torch;

namespace FabricSharp.Tests.Exchange;

/// <summary>Fabric.AllGather over collections and with gradients.</summary>
public class AllGatherTests
{
    [Fact]
    public void AllGather_Collections_GetALeadingDimension() => Ranks.Run(3, fabric =>
    {
        var tree = fabric.AllGather(new Dictionary<string, (Tensor, string)> { ["x"] = (full([2, 2], fabric.GlobalRank, ScalarType.Float32), "own") });
        Assert.Equal([3, 2, 2], tree["x"].Item1.shape);
        Assert.Equal([0, 1, 2], tree["x"].Item1[.., 1, 1].data<float>().ToArray());
        Assert.Equal("own", tree["x"].Item2);
    });

    [Fact]
    public void AllGather_Parameter_GivesATensor() => Ranks.Run(2, fabric =>
    {
        var gathered = fabric.AllGather(nn.Linear(2, 3).weight!);
        Assert.Equal([2, 3, 2], gathered.shape);
        Assert.False(gathered.requires_grad);
    });

    [Fact]
    public void AllGather_SyncGrads_SumsWhatEveryRankSays() => Ranks.Run(2, fabric =>
    {
        var x = full(2, fabric.GlobalRank + 1.0).requires_grad_();
        var all = fabric.AllGather(x, syncGrads: true);
        Assert.Equal([1, 1, 2, 2], all.detach().data<float>().ToArray());
        (all * (fabric.GlobalRank + 1.0)).sum().backward(); // rank 0 says 1, rank 1 says 2
        Assert.Equal([3, 3], x.grad!.data<float>().ToArray());
    });

    [Fact]
    public void AllGather_OneProcess_IsTheSame()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var list = new List<Tensor> { ones(2) };
        Assert.Same(list, fabric.AllGather(list));
        Assert.Same(list[0], fabric.AllGather(list[0], syncGrads: true));
    }

    [Fact]
    public void AllGather_Number_SaysWhatToWrite()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        Assert.Contains("fabric.AllGather(torch.tensor(value))", Assert.Throws<ArgumentException>(() => fabric.AllGather(3)).Message, StringComparison.Ordinal);
    }
}
