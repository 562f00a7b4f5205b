using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class ModuleCheckpointTests
{
    [Fact]
    public void SaveThenLoad_WrappedModule_FillsAnotherInPlace()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var saved = fabric.Setup(Checkpoints.Net());
        saved.call(rand(4, 2)); // the buffers of the normalisation differ from new ones now
        fabric.Save(folder["c"], new() { ["model"] = saved });
        using var fresh = Checkpoints.Net();
        var objects = fresh.parameters().Concat<Tensor>(fresh.buffers()).ToList();
        var handles = objects.Select(tensor => tensor.Handle).ToList();
        var rest = fabric.Load(folder["c"], new() { ["model"] = fresh });
        Assert.Empty(rest);
        Assert.Equal(Checkpoints.Fingerprint(saved), Checkpoints.Fingerprint(fresh));
        Assert.Equal(handles, fresh.parameters().Concat<Tensor>(fresh.buffers()).Select(tensor => tensor.Handle));
        Assert.All(fresh.parameters(), parameter => Assert.True(parameter.requires_grad && parameter.is_leaf));
    }

    [Fact]
    public void Save_WrappedModule_NamesHaveNoPrefix()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["model"] = fabric.Setup(Checkpoints.Net()) });
        var tensors = Assert.IsType<Dictionary<string, Tensor>>(fabric.Load(folder["c"])["model"]);
        Assert.Equal(
            ["first.bias", "first.weight", "norm.bias", "norm.num_batches_tracked", "norm.running_mean", "norm.running_var", "norm.weight", "second.bias", "second.weight"],
            tensors.Keys.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void SaveThenLoad_TiedTensors_AreStoredOnceAndStayTied()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var saved = new TiedNet();
        fabric.Save(folder["c"], new() { ["model"] = saved });
        var stored = (Dictionary<string, Tensor>)fabric.Load(folder["c"])["model"]!;
        Assert.Equal(["decoder.bias", "encoder.bias", "encoder.weight", "kept"], stored.Keys.Order(StringComparer.Ordinal));
        using var fresh = new TiedNet();
        fabric.Load(folder["c"], new() { ["model"] = fresh });
        Assert.Equal(Checkpoints.Fingerprint(saved), Checkpoints.Fingerprint(fresh));
        Assert.Equal(fresh.encoder.weight!.Handle, fresh.decoder.weight!.Handle);
    }

    [Fact]
    public void LoadRaw_FileWithTheOtherNamesOfTiedTensors_IsAccepted()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var untied = new TiedNet(tie: false);
        fabric.Save(folder["c"], new() { ["model"] = untied }); // as a Python writer that keeps both names
        using (no_grad())
            untied.decoder.weight!.copy_(untied.encoder.weight!);
        fabric.Save(folder["c"], new() { ["model"] = untied });
        using var fresh = new TiedNet();
        fabric.LoadRaw(folder["c/model.safetensors"], fresh);
        Assert.Equal(Checkpoints.Fingerprint(untied.encoder.weight!), Checkpoints.Fingerprint(fresh.decoder.weight!));
    }

    [Fact]
    public void Load_TensorsThatOnlyOneSideHas_NamesAllWhenStrict()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var saved = nn.Sequential(("a", nn.Linear(2, 2)), ("b", nn.Linear(2, 2, hasBias: false)));
        fabric.Save(folder["c"], new() { ["model"] = saved });
        using var other = nn.Sequential(("a", nn.Linear(2, 2)), ("c", nn.Linear(2, 2)));
        var before = Checkpoints.Fingerprint(other);
        var message = Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["model"] = other })).Message;
        Assert.Contains("missing in the file: c.weight (F32[2,2])", message);
        Assert.Contains("missing in the file: c.bias (F32[2])", message);
        Assert.Contains("not in the module: b.weight (F32[2,2])", message);
        Assert.Contains("model.safetensors", message);
        Assert.Equal(before, Checkpoints.Fingerprint(other));
        fabric.Load(folder["c"], new() { ["model"] = other }, strict: false);
        Assert.Equal(Checkpoints.Fingerprint(saved.state_dict()["a.weight"]), Checkpoints.Fingerprint(other.state_dict()["a.weight"]));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Load_OtherShapes_NamesAllWithBothShapesAndCopiesNothing(bool strict)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var saved = Checkpoints.Net(hidden: 1); // TorchSharp would broadcast these into the larger ones
        fabric.Save(folder["c"], new() { ["model"] = saved });
        using var larger = Checkpoints.Net(hidden: 3);
        var before = Checkpoints.Fingerprint(larger);
        var message = Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["model"] = larger }, strict)).Message;
        Assert.Contains("first.weight is F32[1,2] in the file, but F32[3,2] here", message);
        Assert.Contains("first.bias is F32[1] in the file, but F32[3] here", message);
        Assert.Contains("second.weight is F32[1,1] in the file, but F32[1,3] here", message);
        Assert.Equal(before, Checkpoints.Fingerprint(larger));
    }

    [Fact]
    public void Load_OtherElementType_IsAnError()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["model"] = Checkpoints.Net().to(ScalarType.Float64) });
        var message = Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["model"] = Checkpoints.Net() })).Message;
        Assert.Contains("first.weight is F64[3,2] in the file, but F32[3,2] here", message);
    }

    [Fact]
    public void Load_BetweenForwardAndBackward_IsNoticedByAutograd()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2));
        fabric.Save(folder["c"], new() { ["model"] = net });
        var loss = net.call(rand(4, 2, requires_grad: true)).sum();
        fabric.Load(folder["c"], new() { ["model"] = net });
        Assert.ThrowsAny<Exception>(() => loss.backward());
    }

    [Fact]
    public void SaveThenLoad_NativeModule_RoundTripsInsideAScope()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var saved = nn.LSTM(2, 3);
        using var fresh = nn.LSTM(2, 3);
        using (NewDisposeScope())
        {
            fabric.Save(folder["c"], new() { ["model"] = saved });
            fabric.Load(folder["c"], new() { ["model"] = fresh });
        }

        using var input = rand(4, 1, 2);
        Assert.Equal(Checkpoints.Fingerprint(saved.call(input).Item1), Checkpoints.Fingerprint(fresh.call(input).Item1));
    }

    [Fact]
    public void LoadRaw_SeveralModules_SaysWhichAndWhatToUse()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["generator"] = Checkpoints.Net(), ["critic"] = Checkpoints.Net() });
        var message = Checkpoints.Fails(() => fabric.LoadRaw(folder["c"], Checkpoints.Net())).Message;
        Assert.Contains("'generator', 'critic'", message);
    }

    [Fact]
    public void LoadRaw_FolderWithOneModule_FillsTheWrappedModule()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var saved = Checkpoints.Net();
        fabric.Save(folder["c"], new() { ["model"] = saved, ["epoch"] = 3 });
        var fresh = fabric.Setup(Checkpoints.Net());
        fabric.LoadRaw(folder["c"], fresh);
        Assert.Equal(Checkpoints.Fingerprint(saved), Checkpoints.Fingerprint(fresh));
    }

    private sealed class TiedNet : nn.Module<Tensor, Tensor>
    {
        public readonly Linear encoder = nn.Linear(3, 3);
        public readonly Linear decoder = nn.Linear(3, 3);

        public TiedNet(bool tie = true)
            : base(nameof(TiedNet))
        {
            if (tie)
                decoder.weight = encoder.weight;
            register_buffer("kept", rand(2));
            register_buffer("scratch", ones(2), persistent: false);
            RegisterComponents();
        }

        public override Tensor forward(Tensor input) => decoder.call(encoder.call(input));
    }
}
