using System.Text.Json;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class ValueCheckpointTests
{
    private sealed record Progress(string Phase, List<double> Losses);

    [Fact]
    public void Load_PlainValues_ReplacesThemAsTheTypesThatWereThere()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new()
        {
            ["epoch"] = 7, ["big"] = long.MaxValue, ["best"] = double.PositiveInfinity, ["rate"] = 0.1, ["name"] = "ü \"x\"", ["pair"] = (3, 0.5),
            ["progress"] = new Progress("warm-up", [1.5, double.NaN]), ["nothing"] = null, ["day"] = new DateOnly(2024, 2, 29), ["unused"] = new[] { 1, 2 },
        });
        var state = new Dictionary<string, object?>
        {
            ["epoch"] = 0, ["big"] = 0L, ["best"] = 0.0, ["rate"] = 0.0, ["name"] = "", ["pair"] = (0, 0.0), ["progress"] = new Progress("", []), ["nothing"] = null, ["day"] = default(DateOnly),
        };
        var rest = fabric.Load(folder["c"], state);
        Assert.Equal(7, state["epoch"]);
        Assert.Equal(long.MaxValue, state["big"]);
        Assert.Equal(double.PositiveInfinity, state["best"]);
        Assert.Equal(0.1, state["rate"]);
        Assert.Equal("ü \"x\"", state["name"]);
        Assert.Equal((3, 0.5), state["pair"]);
        Assert.Equal([1.5, double.NaN], Assert.IsType<Progress>(state["progress"]).Losses);
        Assert.Equal(JsonValueKind.Null, Assert.IsType<JsonElement>(state["nothing"]).ValueKind);
        Assert.Equal(new DateOnly(2024, 2, 29), state["day"]);
        Assert.Equal("unused", Assert.Single(rest).Key);
        Assert.Equal("[1,2]", string.Concat(Assert.IsType<JsonElement>(rest["unused"]).GetRawText().Where(c => !char.IsWhiteSpace(c))));
    }

    [Fact]
    public void Load_WithoutState_GivesEverything()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        fabric.Save(folder["c"], new() { ["model"] = net, ["optimizer"] = optim.SGD(net.parameters(), 0.1), ["x"] = ones(2), ["epoch"] = 4 });
        var all = fabric.Load(folder["c"]);
        Assert.Equal(["model", "optimizer", "x", "epoch"], all.Keys);
        Assert.IsType<Dictionary<string, Tensor>>(all["model"]);
        Assert.Equal("SGD", ((JsonElement)((Dictionary<string, object?>)all["optimizer"]!)["description"]!).GetProperty("type").GetString());
        Assert.Equal(4, ((JsonElement)all["epoch"]!).GetInt32());
    }

    [Fact]
    public void SaveThenLoad_EmptyState_IsAllowed()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], []);
        Assert.Empty(fabric.Load(folder["c"]));
    }

    [Fact]
    public void Load_KeyThatTheCheckpointLacks_IsAnErrorOnlyWhenStrict()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["a"] = 1, ["b"] = 2 });
        var state = new Dictionary<string, object?> { ["a"] = 0, ["c"] = 5 };
        var message = Checkpoints.Fails(() => fabric.Load(folder["c"], state)).Message;
        Assert.Contains("a key 'c' that does not exist", message);
        Assert.Contains("'a', 'b'", message);
        Assert.Equal(0, state["a"]); // nothing was changed
        fabric.Load(folder["c"], state, strict: false);
        Assert.Equal((1, 5), (state["a"], state["c"]));
    }

    [Fact]
    public void Load_KindsThatDiffer_AreErrorsThatNameTheKey()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        fabric.Save(folder["c"], new() { ["a"] = "text", ["b"] = ones(2), ["model"] = net });
        Assert.Contains("'a', but state[\"a\"] is a tensor", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["a"] = ones(2) })).Message);
        Assert.Contains("'a', but state[\"a\"] is a module", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["a"] = net })).Message);
        Assert.Contains("\"text\" as 'a'", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["a"] = 3 })).Message);
        Assert.Contains("holds a tensor as 'b'", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["b"] = 3 })).Message);
        Assert.Contains("F32[2] in the file, but F32[3] here", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["b"] = ones(3) })).Message);
    }

    [Fact]
    public void Load_Tensor_IsCopiedInPlaceWhateverItsStrides()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["x"] = arange(6).reshape(2, 3), ["y"] = arange(3) });
        var (x, y) = (zeros([3, 2], ScalarType.Int64).t(), zeros([3], ScalarType.Int64));
        fabric.Load(folder["c"], new() { ["x"] = x, ["y"] = y });
        Assert.Equal(Checkpoints.Fingerprint(arange(6).reshape(2, 3)), Checkpoints.Fingerprint(x));
        Assert.Equal([0, 1, 2], y.data<long>().ToArray());
    }

    [Fact]
    public void Save_KeysThatAreNoFileNames_RoundTrip()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        string[] keys = ["../escape", "a/b", "MODEL", "model", "tensors", "", "é", "..", ".hidden", new string('x', 300)];
        var nets = keys.ToDictionary(key => key, _ => (object?)nn.Linear(2, 2));
        fabric.Save(folder["c"], nets);
        Assert.Equal(["c"], folder.Names);
        foreach (var key in keys)
        {
            var fresh = nn.Linear(2, 2);
            fabric.Load(folder["c"], new() { [key] = fresh });
            Assert.Equal(Checkpoints.Fingerprint((nn.Module)nets[key]!), Checkpoints.Fingerprint(fresh));
        }
    }

    public static TheoryData<string> Unsavable => ["tensor in a list", "module in a dictionary", "scheduler in a list", "complex", "cycle", "delegate", "reserved name", "disposed", "lbfgs"];

    [Theory]
    [MemberData(nameof(Unsavable))]
    public void Save_WhatACheckpointCannotHold_IsRefusedAndNothingIsWritten(string what)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var cycle = new List<object>();
        cycle.Add(cycle);
        var disposed = ones(1);
        disposed.Dispose();
        using var net = Checkpoints.Net();
        object value = what switch
        {
            "tensor in a list" => new List<object> { ones(2) },
            "module in a dictionary" => new Dictionary<string, object> { ["m"] = net },
            "scheduler in a list" => new List<object> { optim.lr_scheduler.StepLR(optim.SGD(net.parameters(), 0.1), 1) },
            "complex" => ones(2, ScalarType.ComplexFloat32),
            "cycle" => cycle,
            "delegate" => (Action)(() => { }),
            "reserved name" => ones(1),
            "disposed" => disposed,
            _ => optim.LBFGS(net.parameters()),
        };
        var key = what == "reserved name" ? "__metadata__" : "thing";
        var error = Assert.Throws<ArgumentException>(() => fabric.Save(folder["c"], new() { [key] = value }));
        Assert.Contains(what == "lbfgs" ? "LBFGS" : $"state[\"{key}\"]", error.Message);
        Assert.Empty(folder.Names);
    }
}
