using System.Text.Json;
using System.Text.Json.Nodes;
using FabricSharp.Checkpointing;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing.PyTorch;

/// <summary>What is read out of files of torch.save, against what was put into them.</summary>
public class TorchFileTests
{
    public static TheoryData<string> Names => [.. TorchFiles.Names];

    [Theory]
    [MemberData(nameof(Names))]
    public void Load_EachFile_GivesEveryTensorBitForBit(string name)
    {
        using var fabric = Checkpoints.OneRank();
        using var scope = NewDisposeScope();
        var found = new Dictionary<string, string>();
        Collect(fabric.Load(TorchFiles.PathOf(name)), "", found);
        var expected = TorchFiles.ExpectedOf(name).GetProperty("tensors").EnumerateObject()
            .ToDictionary(tensor => NameOf(name, tensor.Name), tensor => $"{tensor.Value[0]}[{string.Join(',', tensor.Value[1].EnumerateArray())}] {tensor.Value[2]}");
        Assert.Equal(expected.OrderBy(tensor => tensor.Key, StringComparer.Ordinal), found.OrderBy(tensor => tensor.Key, StringComparer.Ordinal));
    }

    [Fact]
    public void Load_PlainValues_AreThoseOfPython()
    {
        using var fabric = Checkpoints.OneRank();
        var loaded = fabric.Load(TorchFiles.PathOf("plain.pt"));
        var found = new JsonObject(loaded.Select(value => KeyValuePair.Create(value.Key, JsonNode.Parse(((JsonElement)value.Value!).GetRawText()))));
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(TorchFiles.ExpectedOf("plain.pt").GetProperty("plain").GetRawText()), found), found.ToJsonString());
    }

    [Fact]
    public void Load_PlainValues_ReplaceThoseOfTheState()
    {
        using var fabric = Checkpoints.OneRank();
        var state = new Dictionary<string, object?> { ["small"] = 0, ["long"] = 0L, ["nan"] = 0.0, ["infinite"] = 0f, ["text"] = "", ["bytes"] = Array.Empty<byte>(), ["list"] = null, ["tuple"] = Array.Empty<object>() };
        fabric.Load(TorchFiles.PathOf("plain.pt"), state);
        Assert.Equal(7, state["small"]);
        Assert.Equal(1L << 40, state["long"]);
        Assert.Equal(double.NaN, state["nan"]);
        Assert.Equal(float.PositiveInfinity, state["infinite"]);
        Assert.Equal("grüß 😀", state["text"]);
        Assert.Equal([0, 255, 128], (byte[])state["bytes"]!);
        Assert.Equal("[1,[2,[3]]]", ((JsonElement)state["list"]!).GetRawText());
        Assert.Equal(4, ((object[])state["tuple"]!).Length);
    }

    [Theory]
    [InlineData("looks.pt")]
    [InlineData("legacy_looks.pt")]
    public void Load_TensorsThatShareMemory_ShareItAgain(string name)
    {
        using var fabric = Checkpoints.OneRank();
        using var scope = NewDisposeScope();
        var loaded = fabric.Load(TorchFiles.PathOf(name));
        ((Tensor)loaded["whole"]!).fill_(3);
        foreach (var look in new[] { "transposed", "row", "every second" })
            Assert.True(((Tensor)loaded[look]!).eq(3).all().item<bool>(), look);
        Assert.False(((Tensor)loaded["alone"]!).eq(3).any().item<bool>());
    }

    [Theory]
    [InlineData("state_dict.pt")]
    [InlineData("legacy.pt")]
    public void Load_TheFileIsDeletedMeanwhile_TheTensorsStay(string name)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.Copy(TorchFiles.PathOf(name), folder["m.pt"]);
        var loaded = fabric.Load(folder["m.pt"]);
        File.Delete(folder["m.pt"]);
        Assert.Equal(7, ((Tensor)loaded["norm.num_batches_tracked"]!).item<long>());
    }

    [Fact]
    public void Load_AnyBitOfAZipFileChanged_IsNoticedOrChangesNothing()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var scope = NewDisposeScope();
        var original = File.ReadAllBytes(TorchFiles.PathOf("tensor.pt"));
        for (var position = 0; position < original.Length; position++)
        {
            var changed = (byte[])original.Clone();
            changed[position] ^= (byte)(1 << (position % 8));
            File.WriteAllBytes(folder["m.pt"], changed);
            if (Record(() => fabric.Load(folder["m.pt"])) is { } loaded)
                Assert.Equal("Float32[3] 0000003F0000403F0000803F", Checkpoints.Fingerprint((Tensor)loaded["tensor"]!));
        }
    }

    [Theory]
    [InlineData("state_dict.pt")]
    [InlineData("legacy.pt")]
    public void Load_FileCutAnywhere_NamesIt(string name)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var original = File.ReadAllBytes(TorchFiles.PathOf(name));
        for (var keep = 0; keep < original.Length; keep += Math.Max(1, original.Length / 97))
        {
            File.WriteAllBytes(folder["m.pt"], original[..keep]);
            Assert.Contains(folder["m.pt"], Checkpoints.Fails(() => fabric.Load(folder["m.pt"])).Message);
        }
    }

    /// <summary>Kept true by the fixtures: what is committed is what the script makes.</summary>
    [Fact]
    public void Fixtures_MadeAgain_AreTheCommittedOnes()
    {
        TorchFiles.RequirePython();
        using var folder = new TemporaryFolder();
        var (output, reason) = TorchFiles.Python(Path.Combine(TorchFiles.Folder, "make_torch_files.py"), folder.Path);
        Assert.True(output is not null, reason);
        Assert.Equal(TorchFiles.Names, folder.Names.Where(name => !name.EndsWith(".json", StringComparison.Ordinal)));
        Assert.All(TorchFiles.Names, name => Assert.Equal(File.ReadAllBytes(TorchFiles.PathOf(name)), File.ReadAllBytes(folder[name])));
    }

    private static IReadOnlyDictionary<string, object?>? Record(Func<IReadOnlyDictionary<string, object?>> load)
    {
        try
        {
            return load();
        }
        catch (CheckpointException)
        {
            return null;
        }
    }

    /// <summary>A list of optimizers becomes several entries; what has no key becomes one with a name.</summary>
    private static string NameOf(string file, string name) => file switch
    {
        "tensor.pt" => "tensor",
        "adam.pt" or "adamw.pt" or "sgd.pt" => $"optimizer/{name}",
        _ => name.Replace("optimizer_states/0", "optimizer_states.0", StringComparison.Ordinal),
    };

    private static void Collect(object? value, string name, Dictionary<string, string> found)
    {
        switch (value)
        {
            case Tensor tensor:
                found.Add(name, Checkpoints.Fingerprint(tensor));
                break;
            case IReadOnlyDictionary<string, object?> dict:
                foreach (var (key, item) in dict)
                    Collect(item, name.Length == 0 ? key : $"{name}/{key}", found);
                break;
            case Dictionary<string, Tensor> tensors:
                foreach (var (key, tensor) in tensors)
                    Collect(tensor, name.Length == 0 ? key : $"{name}/{key}", found);
                break;
            case List<object?> list:
                foreach (var (index, item) in list.Index())
                    Collect(item, $"{name}/{index}", found);
                break;
        }
    }
}
