using FabricSharp.Checkpointing;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class CheckpointDoorTests
{
    [Fact]
    public void LoadModule_Lenient_ListsMissingAndUnexpectedNames()
    {
        using var folder = new TemporaryFolder();
        Checkpoint.Save(folder["c"], new() { ["a"] = nn.Sequential(("x", nn.Linear(2, 2)), ("y", nn.Linear(2, 2))), ["b"] = nn.Linear(1, 1) });
        using var net = nn.Sequential(("x", nn.Linear(2, 2)), ("z", nn.Linear(2, 2, hasBias: false)));
        var keys = Checkpoint.LoadModule(folder["c"], net, "a", strict: false);
        Assert.Equal(["z.weight"], keys.MissingKeys);
        Assert.Equal(["y.bias", "y.weight"], keys.UnexpectedKeys.Order());
        Assert.Contains("holds 2 entries", Checkpoints.Fails(() => Checkpoint.LoadModule(folder["c"], net, strict: false)).Message);
        Assert.Contains("no entry 'q'. It has: 'a', 'b'", Checkpoints.Fails(() => Checkpoint.LoadModule(folder["c"], net, "q")).Message);
        using var fabric = Checkpoints.OneRank();
        Assert.Equal(["z.weight"], fabric.LoadRaw(folder["c/a.safetensors"], net, strict: false).MissingKeys);
    }

    [Fact]
    public void Load_SeveralThingsThatDoNotFit_AreNamedAtOnceAndNothingIsChanged()
    {
        using var folder = new TemporaryFolder();
        using var net = nn.Sequential(("x", nn.Linear(2, 2)), ("y", nn.Linear(2, 2)));
        Checkpoint.Save(folder["c"], new() { ["model"] = net, ["t"] = ones(3), ["epoch"] = 1 });
        using var other = nn.Sequential(("x", nn.Linear(3, 2)), ("y", nn.Linear(2, 2, dtype: ScalarType.Float64)), ("z", nn.Linear(1, 1)));
        var before = Checkpoints.Fingerprint(other);
        var state = new Dictionary<string, object?> { ["epoch"] = 0, ["model"] = other, ["t"] = ones(4), ["u"] = 1 };
        var message = Checkpoints.Fails(() => Checkpoint.Load(folder["c"], state)).Message;
        Assert.Contains("x.weight is F32[2,2] in the file, but F32[2,3] here", message);
        Assert.Contains("y.bias is F32[2] in the file, but F64[2] here", message);
        Assert.Contains("missing in the file: z.weight (F32[1,1])", message);
        Assert.Contains("t is F32[3] in the file, but F32[4] here", message);
        Assert.Contains("a key 'u'", message);
        Assert.Equal(before, Checkpoints.Fingerprint(other));
        Assert.Equal(0, state["epoch"]);
    }

    [Fact]
    public void SaveThenLoad_LargeTensorWithAnyStrides_IsExact()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var wide = arange(3 * 5_000_000, ScalarType.Int32).reshape(5_000_000, 3).t(); // parts of 60 MB: rows larger than what is staged
        var deep = arange(6_000_000, ScalarType.Int32).reshape(2, 3, 1_000_000).permute(2, 1, 0);
        Checkpoint.Save(folder["c"], new() { ["wide"] = wide, ["deep"] = deep });
        var loaded = Checkpoint.Load(folder["c"]);
        Assert.True(((Tensor)loaded["wide"]!).eq(wide).all().item<bool>());
        Assert.True(((Tensor)loaded["deep"]!).eq(deep).all().item<bool>());
        var target = zeros([5_000_000, 3], ScalarType.Int32).t();
        Checkpoint.Load(folder["c"], new() { ["wide"] = target }, strict: false);
        Assert.True(target.eq(wide).all().item<bool>());
    }
}
