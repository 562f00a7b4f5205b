using FabricSharp.Collectives;

namespace FabricSharp.Tests.Collectives;

public class ProcessGroupTests
{
    [Fact]
    public void Create_UnknownBackend_ListsTheKnownOnes()
    {
        using var store = new HashStore();
        var e = Assert.Throws<ArgumentException>(() => ProcessGroup.Create("gloo", store, 0, 1));
        Assert.Equal("backend", e.ParamName);
        Assert.Contains("'gloo'", e.Message);
        Assert.All(ProcessGroup.Backends, name => Assert.Contains(name, e.Message));
    }

    [Fact]
    public void ReduceOp_Default_IsTheSum() => Assert.Equal("Sum", default(ReduceOp).ToString());

    [Fact]
    public void ReduceOp_Scaled_ShowsItsFactor() => Assert.Equal("PreMulSum(0.25)", ReduceOp.PreMulSum(0.25).ToString());
}
