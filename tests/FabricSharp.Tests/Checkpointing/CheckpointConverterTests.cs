using FabricSharp.Checkpointing;
using FabricSharp.Tests.Checkpointing.PyTorch;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class CheckpointConverterTests
{
    [Theory]
    [InlineData("state_dict.pt", null, null)]
    [InlineData("legacy.pt", null, null)]
    [InlineData("lightning.ckpt", null, "model.")]
    [InlineData("lightning.ckpt", "state_dict", "model.")]
    [InlineData("wrapped.pth", null, "module._orig_mod.")]
    [InlineData("fabric.ckpt", "model", null)]
    public void Convert_ToASafetensorsFile_HoldsTheTensorsOfTheModule(string name, string? key, string? strip)
    {
        using var folder = new TemporaryFolder();
        var result = CheckpointConverter.Convert(TorchFiles.PathOf(name), folder["sub/m.safetensors"], new ConversionOptions(key, strip));
        Assert.Equal(9, result.Tensors);
        RequireStateDict(folder["sub/m.safetensors"], "");
        Assert.Equal(["m.safetensors"], Directory.EnumerateFiles(folder["sub"]).Select(path => Path.GetFileName(path)));
    }

    [Fact]
    public void Convert_TensorsThatAreLooks_AreWrittenInRowMajorOrder()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        foreach (var name in new[] { "looks.pt", "legacy_looks.pt" })
        {
            CheckpointConverter.Convert(TorchFiles.PathOf(name), folder[$"{name}.safetensors"], new ConversionOptions());
            var (expected, found) = (fabric.Load(TorchFiles.PathOf(name)), fabric.Load(folder[$"{name}.safetensors"]));
            Assert.All(expected, tensor => Assert.Equal(Checkpoints.Fingerprint((Tensor)tensor.Value!), Checkpoints.Fingerprint((Tensor)found[tensor.Key]!)));
        }
    }

    [Fact]
    public void Convert_LightningToAFolder_KeepsModuleAndValuesAndNamesTheRest()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var result = CheckpointConverter.Convert(TorchFiles.PathOf("lightning.ckpt"), folder["c"], new ConversionOptions(StripPrefix: "model."));
        using var net = Checkpoints.Net();
        var state = new Dictionary<string, object?> { ["state_dict"] = net, ["epoch"] = 0, ["global_step"] = 0L };
        var rest = fabric.Load(folder["c"], state);
        Assert.Equal(3, state["epoch"]);
        Assert.Equal(120L, state["global_step"]);
        Assert.Equal(7, net.state_dict()["norm.num_batches_tracked"].item<long>());
        Assert.Equal(["loops", "lr_schedulers", "pytorch-lightning_version"], rest.Keys.Order(StringComparer.Ordinal));
        Assert.Equal(2, result.LeftOut.Count);
        Assert.Contains("'callbacks' (nested)", result.LeftOut[0]);
        Assert.Contains("'optimizer_states.0' (optimizer): the file does not tell the type", result.LeftOut[1]);
    }

    [Fact]
    public void Convert_FolderToFileToFolder_ComesBackTheSame()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        fabric.Save(folder["c"], new() { ["model"] = net, ["optimizer"] = optim.Adam(net.parameters(), 0.5), ["loose"] = ones(2), ["step"] = 3 });
        CheckpointConverter.Convert(folder["c"], folder["m.safetensors"], new ConversionOptions());
        CheckpointConverter.Convert(folder["m.safetensors"], folder["back"], new ConversionOptions(Key: "net"));
        CheckpointConverter.Convert(folder["c"], folder["o.safetensors"], new ConversionOptions(Key: "optimizer"));
        CheckpointConverter.Convert(folder["c"], folder["copy"], new ConversionOptions());
        using var other = Checkpoints.Net();
        var optimizer = optim.Adam(other.parameters());
        fabric.Load(folder["back"], new() { ["net"] = other });
        fabric.LoadRaw(folder["o.safetensors"], optimizer);
        Assert.Equal(Checkpoints.Fingerprint(net), Checkpoints.Fingerprint(other));
        Assert.Equal(0.5, optimizer.ParamGroups.First().LearningRate);
        foreach (var path in Directory.EnumerateFiles(folder["c"], "*.safetensors"))
            Assert.Equal(File.ReadAllBytes(path), File.ReadAllBytes(path.Replace(folder["c"], folder["copy"], StringComparison.Ordinal)));
        Assert.Equal(File.ReadAllText(folder["c/state.json"]), File.ReadAllText(folder["copy/state.json"]));
    }

    [Theory]
    [InlineData("out.pt", null, null, "pickles are read here, not written")]
    [InlineData("there.safetensors", null, null, "exists")]
    [InlineData("out.safetensors", null, "nothing.", "none of the 9 names begins with it")]
    [InlineData("m.pt", null, null, "")]
    public void Convert_WhatDoesNotGoTogether_IsMisuseAndLeavesNothing(string target, string? key, string? strip, string reason)
    {
        using var folder = new TemporaryFolder();
        File.Copy(TorchFiles.PathOf("state_dict.pt"), folder["m.pt"]);
        File.WriteAllText(folder["there.safetensors"], "x");
        Assert.Contains(reason, Assert.Throws<ArgumentException>(() => CheckpointConverter.Convert(folder["m.pt"], folder[target], new ConversionOptions(key, strip))).Message);
        Assert.Equal(["m.pt", "there.safetensors"], folder.Names);
    }

    [Theory]
    [InlineData("fabric.ckpt", "net", "no entry 'net'. It has: 'model', 'optimizer', 'step'")]
    [InlineData("fabric.ckpt", "step", "'step' is a value")]
    [InlineData("adam.pt", null, "0 entries of the kind module")]
    [InlineData("types.pt", null, "'complex64' of ComplexFloat32 cannot be in a .safetensors file")]
    public void Convert_WhatIsNotThere_IsNamedAndLeavesNothing(string name, string? key, string reason)
    {
        using var folder = new TemporaryFolder();
        Assert.Contains(reason, Checkpoints.Fails(() => CheckpointConverter.Convert(TorchFiles.PathOf(name), folder["m.safetensors"], new ConversionOptions(key))).Message);
        Assert.Empty(folder.Names);
    }

    [Fact]
    public void Convert_TensorsThatShareTooMuch_AreRefused()
    {
        using var folder = new TemporaryFolder();
        var one = TorchFiles.Tensor("0", 1 << 20, TorchFiles.Integer(0), TorchFiles.Tuple(1 << 20), TorchFiles.Tuple(1), "ByteStorage");
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle("}(" + string.Concat(Enumerable.Range(0, 60).Select(i => TorchFiles.Text($"t{i}") + one)) + "u"), ("0", new byte[1 << 20])));
        Assert.Contains("share memory so much", Checkpoints.Fails(() => CheckpointConverter.Convert(folder["m.pt"], folder["m.safetensors"], new ConversionOptions())).Message);
        Assert.Equal(["m.pt"], folder.Names);
    }

    [Fact]
    public void Convert_Prefix_IsPutInFrontAndReplaceReplaces()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["m.safetensors"], "x");
        CheckpointConverter.Convert(TorchFiles.PathOf("state_dict.pt"), folder["m.safetensors"], new ConversionOptions(Prefix: "net.", Replace: true));
        RequireStateDict(folder["m.safetensors"], "net.");
    }

    private static void RequireStateDict(string path, string prefix)
    {
        using var fabric = Checkpoints.OneRank();
        var expected = TorchFiles.ExpectedOf("state_dict.pt").GetProperty("tensors").EnumerateObject()
            .Select(tensor => $"{prefix}{tensor.Name} {tensor.Value[0]}[{string.Join(',', tensor.Value[1].EnumerateArray())}] {tensor.Value[2]}");
        Assert.Equal(expected.Order(StringComparer.Ordinal), fabric.Load(path).Select(tensor => $"{tensor.Key} {Checkpoints.Fingerprint((Tensor)tensor.Value!)}").Order(StringComparer.Ordinal));
    }
}
