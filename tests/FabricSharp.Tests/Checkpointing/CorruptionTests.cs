using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;
using FabricSharp.Checkpointing;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class CorruptionTests
{
    private static readonly string[] Files = ["manifest.json", "state.json", "model.safetensors", "optimizer.safetensors", "tensors.safetensors"];

    [Fact]
    public void Load_AnyBytesChanged_IsRefusedOrGivesTheSameData()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var originals = SaveAll(fabric, folder["c"]);
        var expected = Describe(fabric.Load(folder["c"]));
        Gen.Select(Gen.Int[0, Files.Length - 1].Select(i => Files[i]), Gen.Int[0, 1 << 20], Gen.Byte[1, 255]).Array[1, 3].Sample(
            flips =>
            {
                foreach (var (name, position, mask) in flips)
                    Flip(folder[$"c/{name}"], position, mask);
                try
                {
                    using var scope = NewDisposeScope();
                    return Describe(fabric.Load(folder["c"])) == expected;
                }
                catch (CheckpointException)
                {
                    return true;
                }
                finally
                {
                    Restore(folder["c"], originals);
                }
            },
            iter: 400,
            threads: 1);
    }

    [Fact]
    public void Load_ABitChangedInTheData_IsAlwaysNoticedAndNamesTheFile()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var originals = SaveAll(fabric, folder["c"]);
        Gen.Select(Gen.Int[1, Files.Length - 1].Select(i => Files[i]), Gen.Int[0, 1 << 20], Gen.Int[0, 7]).Sample(
            flip =>
            {
                Flip(folder[$"c/{flip.Item1}"], flip.Item2, (byte)(1 << flip.Item3));
                var message = Checkpoints.Fails(() => fabric.Load(folder["c"])).Message;
                Restore(folder["c"], originals);
                return message.Contains($"'{folder[$"c/{flip.Item1}"]}' is corrupt: its checksum");
            },
            iter: 100,
            threads: 1);
    }

    [Fact]
    public void Load_BareFileWithAnyBytesChanged_IsRefusedOrGivesTensors()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        SaveAll(fabric, folder["c"]);
        var original = File.ReadAllBytes(folder["c/optimizer.safetensors"]);
        var headerEnd = 8 + BitConverter.ToInt32(original);
        Gen.Select(Gen.Int[0, headerEnd - 1], Gen.Byte[1, 255]).Array[1, 3].Sample(
            flips =>
            {
                using var scope = NewDisposeScope();
                File.WriteAllBytes(folder["m.safetensors"], original);
                foreach (var (position, mask) in flips)
                    Flip(folder["m.safetensors"], position, mask);
                OnlyCheckpointExceptions(() => fabric.Load(folder["m.safetensors"]));
                OnlyCheckpointExceptions(() => fabric.LoadRaw(folder["m.safetensors"], optim.Adam(Checkpoints.Net().parameters())));
            },
            iter: 400,
            threads: 1);
    }

    [Fact]
    public void Load_FileCutAnywhere_NamesItAndItsSize()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var originals = SaveAll(fabric, folder["c"]);
        foreach (var name in Files)
            foreach (var keep in new[] { 0, 1, 7, originals[name].Length / 2, originals[name].Length - 1 })
            {
                File.WriteAllBytes(folder[$"c/{name}"], originals[name][..keep]);
                Assert.Contains(folder[$"c/{name}"], Checkpoints.Fails(() => fabric.Load(folder["c"])).Message);
                Restore(folder["c"], originals);
            }
    }

    [Fact]
    public void Load_FileMissing_NamesIt()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var originals = SaveAll(fabric, folder["c"]);
        foreach (var name in Files)
        {
            File.Delete(folder[$"c/{name}"]);
            Assert.Contains(name, Checkpoints.Fails(() => fabric.Load(folder["c"])).Message);
            Restore(folder["c"], originals);
        }
    }

    [Fact]
    public void Load_CorruptData_LeavesEveryObjectAsItWas()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        SaveAll(fabric, folder["c"]);
        Flip(folder["c/tensors.safetensors"], -1, 1);
        using var net = Checkpoints.Net();
        var before = Checkpoints.Fingerprint(net);
        Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["model"] = net }, strict: false));
        Assert.Equal(before, Checkpoints.Fingerprint(net));
    }

    [Theory]
    [InlineData("../secret.json")]
    [InlineData("/etc/hostname")]
    [InlineData("..")]
    [InlineData("sub/state.json")]
    [InlineData("sub\\state.json")]
    [InlineData("state.json\n")]
    [InlineData("")]
    public void Load_ManifestThatLeadsOutOfTheFolder_IsRefused(string name)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        SaveAll(fabric, folder["c"]);
        File.WriteAllText(folder["secret.json"], "{}");
        EditManifest(folder["c/manifest.json"], manifest => manifest["files"]![0]!["name"] = name);
        var message = Checkpoints.Fails(() => fabric.Load(folder["c"])).Message;
        Assert.Contains(folder["c/manifest.json"], message);
        Assert.Contains("A name is one of this folder", message);
    }

    [Fact]
    public void Load_UnknownVersionOrFormat_SaysSo()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        SaveAll(fabric, folder["c"]);
        EditManifest(folder["c/manifest.json"], manifest => manifest["version"] = 2);
        Assert.Contains("has version 2; this FabricSharp reads version 1", Checkpoints.Fails(() => fabric.Load(folder["c"])).Message);
        EditManifest(folder["c/manifest.json"], manifest => manifest["format"] = "bundle");
        Assert.Contains("its format is 'bundle'", Checkpoints.Fails(() => fabric.Load(folder["c"])).Message);
    }

    [Theory]
    [InlineData("""{"entries":{"a":{"kind":"wormhole"}}}""")]
    [InlineData("""{"entries":{"a":{"kind":"3","value":1}}}""")]
    [InlineData("""{"entries":{"a":{"kind":"module"}}}""")]
    [InlineData("""{"entries":{"a":{"kind":"module","file":"../x"}}}""")]
    [InlineData("""{"entries":{"a":{"kind":"module","file":"state.json"}}}""")]
    [InlineData("""{"entries":{"a":{"kind":"value"}}}""")]
    [InlineData("""{"entries":{"a":{"kind":"value","value":1},"a":{"kind":"value","value":2}}}""")]
    [InlineData("""{"entries":7}""")]
    [InlineData("[]")]
    public void Load_StateThatMakesNoSense_IsCorrupt(string json)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        new CheckpointPlace(folder["c"]).Write(temporary =>
        {
            var file = HashedFile.Write(temporary, "state.json", System.Text.Encoding.UTF8.GetBytes(json));
            HashedFile.Write(temporary, "manifest.json", CheckpointManifest.Write([file]));
        });
        Assert.Contains("corrupt", Checkpoints.Fails(() => fabric.Load(folder["c"])).Message);
    }

    private static Dictionary<string, byte[]> SaveAll(Fabric fabric, string path)
    {
        using var net = Checkpoints.Net();
        fabric.Save(path, new() { ["model"] = net, ["optimizer"] = optim.Adam(net.parameters()), ["tensor"] = rand(5), ["epoch"] = 3 });
        return Files.ToDictionary(name => name, name => File.ReadAllBytes(Path.Combine(path, name)));
    }

    private static void Restore(string path, Dictionary<string, byte[]> originals)
    {
        foreach (var (name, content) in originals)
            File.WriteAllBytes(Path.Combine(path, name), content);
    }

    private static void Flip(string path, int position, byte mask)
    {
        var content = File.ReadAllBytes(path);
        content[position < 0 ? ^-position : position % content.Length] ^= mask;
        File.WriteAllBytes(path, content);
    }

    private static void EditManifest(string path, Action<JsonNode> edit)
    {
        var manifest = JsonNode.Parse(File.ReadAllText(path))!;
        edit(manifest);
        File.WriteAllText(path, manifest.ToJsonString());
    }

    private static void OnlyCheckpointExceptions(Action action)
    {
        try
        {
            action();
        }
        catch (CheckpointException)
        {
        }
    }

    private static string Describe(IReadOnlyDictionary<string, object?> loaded) => string.Join('\n', loaded.Select(entry => $"{entry.Key}: {Describe(entry.Value)}"));

    private static string Describe(object? value) => value switch
    {
        Tensor tensor => Checkpoints.Fingerprint(tensor),
        Dictionary<string, Tensor> tensors => Describe(tensors.ToDictionary(entry => entry.Key, entry => (object?)entry.Value)),
        Dictionary<string, object?> parts => Describe((IReadOnlyDictionary<string, object?>)parts),
        JsonElement element => element.GetRawText(),
        _ => throw new InvalidOperationException($"unexpected {value}"),
    };
}
