using System.Text.Json;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class FilterTests
{
    [Fact]
    public void Save_Filter_LeavesOutTensorsAndItems()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        var model = fabric.Setup(net);
        fabric.Save(folder["c"], new() { ["model"] = model, ["numbers"] = new Dictionary<string, int> { ["a"] = 1, ["b"] = 2 }, ["epoch"] = 3 }, new()
        {
            ["model"] = (name, value) => name.StartsWith("second.", StringComparison.Ordinal) && ((Tensor)value).dim() == 1,
            ["numbers"] = (_, value) => (int)value > 1,
        });
        var all = fabric.Load(folder["c"]);
        Assert.Equal(["second.bias"], ((Dictionary<string, Tensor>)all["model"]!).Keys);
        Assert.Equal("{\"b\":2}", string.Concat(((JsonElement)all["numbers"]!).GetRawText().Where(c => !char.IsWhiteSpace(c))));
        Assert.Equal(3, ((JsonElement)all["epoch"]!).GetInt32());
    }

    [Fact]
    public void Save_FilterThatLeavesNothing_KeepsAnEmptyEntry()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["model"] = Checkpoints.Net() }, new() { ["model"] = (_, _) => false });
        Assert.Empty((Dictionary<string, Tensor>)fabric.Load(folder["c"])["model"]!);
    }

    [Theory]
    [InlineData("other", "'model', 'epoch'")]
    [InlineData("epoch", "no named parts")]
    [InlineData("null", "hold functions")]
    public void Save_FilterThatCannotBe_IsRefused(string key, string expected)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var filter = new Dictionary<string, Func<string, object, bool>> { [key == "null" ? "model" : key] = key == "null" ? null! : (_, _) => true };
        Assert.Contains(expected, Assert.Throws<ArgumentException>(() => fabric.Save(folder["c"], new() { ["model"] = Checkpoints.Net(), ["epoch"] = 1 }, filter)).Message);
        Assert.Empty(folder.Names);
    }
}
