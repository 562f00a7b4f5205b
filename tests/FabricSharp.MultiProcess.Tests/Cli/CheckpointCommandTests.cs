using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.Cli;

/// <summary><c>fabric checkpoint</c> as its user sees it: without libtorch beside it.</summary>
public sealed class CheckpointCommandTests : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-cli-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Inspect_Lightning_ShowsEntriesTensorsAndValues()
    {
        var result = await RunAsync("inspect", PathOf("lightning.ckpt"));
        Assert.Equal(0, result.ExitCode);
        Assert.Contains("PyTorch zip file, version 3, 8 entries, 26 tensors", result.Output, StringComparison.Ordinal);
        Assert.Matches(@"pytorch-lightning_version +value +""2\.5\.0""", result.Output);
        Assert.Matches(@"state_dict +module +model\.first\.weight +F32 +\[3,2\] +24 B", result.Output);
        Assert.Matches(@"optimizer_states\.0 +optimizer +state\.0\.step", result.Output);
    }

    [Fact]
    public async Task Inspect_Json_IsOneObject()
    {
        var result = await RunAsync("inspect", PathOf("fabric.ckpt"), "--json");
        var root = JsonDocument.Parse(result.Output).RootElement;
        Assert.Equal("PyTorch zip file, version 3", root.GetProperty("format").GetString());
        var entries = root.GetProperty("entries").EnumerateArray().ToList();
        Assert.Equal(["module", "optimizer", "value"], entries.Select(entry => entry.GetProperty("kind").GetString()));
        Assert.Equal(12, entries[2].GetProperty("value").GetInt32());
        var tensor = entries[0].GetProperty("tensors")[0];
        Assert.Equal(("first.weight", "F32", 24L), (tensor.GetProperty("name").GetString(), tensor.GetProperty("dtype").GetString(), tensor.GetProperty("bytes").GetInt64()));
    }

    [Fact]
    public async Task ConvertThenVerify_EachKind_Works()
    {
        Assert.Equal(0, (await RunAsync("convert", PathOf("lightning.ckpt"), InFolder("m.safetensors"), "--key", "state_dict", "--strip-prefix", "model.")).ExitCode);
        var toFolder = await RunAsync("convert", PathOf("lightning.ckpt"), InFolder("c"));
        Assert.Equal(0, toFolder.ExitCode);
        Assert.Contains("left out: 'callbacks' (nested)", toFolder.Output, StringComparison.Ordinal);
        Assert.Equal(0, (await RunAsync("convert", InFolder("c"), InFolder("again.safetensors"))).ExitCode);
        foreach (var path in new[] { "m.safetensors", "c", "again.safetensors" })
        {
            var verified = await RunAsync("verify", InFolder(path));
            Assert.Equal(0, verified.ExitCode);
            Assert.Contains("is sound", verified.Output, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("looks.pt")]
    [InlineData("c/model.safetensors")]
    public async Task Verify_ChangedFile_FailsWithOneAndNamesIt(string name)
    {
        Assert.Equal(0, (await RunAsync("convert", PathOf("state_dict.pt"), InFolder("c"))).ExitCode);
        if (name == "looks.pt")
            File.Copy(PathOf(name), InFolder(name));
        var bytes = File.ReadAllBytes(InFolder(name));
        bytes[name == "looks.pt" ? bytes.AsSpan().IndexOf("looks/data/0"u8) + 100 : ^1] ^= 1;
        File.WriteAllBytes(InFolder(name), bytes);
        var result = await RunAsync("verify", name == "looks.pt" ? InFolder(name) : InFolder("c"));
        Assert.Equal(1, result.ExitCode);
        Assert.Contains(InFolder(name), result.Error, StringComparison.Ordinal);
        Assert.Contains("corrupt", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1, "There is no checkpoint", "verify", "nothing.pt")]
    [InlineData(1, "no valid safetensors file", "inspect", "bad.safetensors")]
    [InlineData(1, "There is no checkpoint", "convert", "nothing.pt", "m.safetensors")]
    [InlineData(2, "pickles are read here, not written", "convert", "bad.safetensors", "m.pt")]
    [InlineData(2, "--force", "convert", "bad.safetensors", "there.safetensors")]
    [InlineData(1, "Required argument 'OUT' missing", "convert", "bad.safetensors")]
    [InlineData(1, "'--nonsense'", "verify", "bad.safetensors", "--nonsense")]
    public async Task WrongInput_SaysWhyAndEndsWithItsCode(int code, string reason, params string[] arguments)
    {
        File.WriteAllBytes(InFolder("bad.safetensors"), [2, 0, 0, 0, 0, 0, 0, 0, (byte)'{', (byte)'x']);
        File.WriteAllText(InFolder("there.safetensors"), "");
        var result = await RunAsync([arguments[0], .. arguments.Skip(1).Select(argument => argument.StartsWith('-') ? argument : InFolder(argument))]);
        Assert.Equal(code, result.ExitCode);
        Assert.Contains(reason, result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Help_OfEachCommand_HasExamples()
    {
        foreach (var command in new[] { "inspect", "verify", "convert" })
            Assert.Contains($"fabric checkpoint {command} ", (await RunAsync(command, "--help")).Output, StringComparison.Ordinal);
    }

    private static string PathOf(string name) => Path.Combine(Programs.RepositoryRoot, "tests", "FabricSharp.Tests", "Checkpointing", "PyTorch", "Files", name);

    private string InFolder(string name) => Path.Combine(_folder, name);

    private static async Task<ProgramResult> RunAsync(params string[] arguments)
    {
        using var program = new RunningProgram(Programs.Fabric, ["checkpoint", .. arguments]);
        return await program.EndAsync(Limit);
    }
}
