using System.Text.Json;
using FabricSharp.Checkpointing;
using FabricSharp.Checkpointing.PyTorch;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing.PyTorch;

/// <summary>Python reads what is written here, and torch's own files are read, where Python and torch are.</summary>
public class PythonTests
{
    [Fact]
    public void Save_EachType_IsReadByAnIndependentReaderInPython()
    {
        TorchFiles.RequirePython();
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var state = new Dictionary<string, object?>();
        foreach (var (type, name) in SafetensorsTests.Types.Select(row => row.Data))
        {
            state[$"{name} grüß \"x\""] = (rand(3, 5) * 100).to(type).t();
            state[$"{name} scalar"] = ones([], type);
            state[$"{name} empty"] = empty([0, 2], type);
        }

        fabric.Save(folder["c"], state);
        RequireSame(state.ToDictionary(entry => entry.Key, entry => (Tensor)entry.Value!), Read(folder["c/tensors.safetensors"]), StoredName);
    }

    [Theory]
    [InlineData("state_dict.pt")]
    [InlineData("looks.pt")]
    [InlineData("legacy_looks.pt")]
    public void Convert_File_IsReadByAnIndependentReaderInPython(string name)
    {
        TorchFiles.RequirePython();
        using var folder = new TemporaryFolder();
        CheckpointConverter.Convert(TorchFiles.PathOf(name), folder["m.safetensors"], new ConversionOptions());
        Assert.Equal(Lines(TorchFiles.ExpectedOf(name).GetProperty("tensors")), Lines(Read(folder["m.safetensors"])));
    }

    [Fact]
    public void RealTorch_SavesAndReads_WhatIsReadAndSavedHere()
    {
        if (TorchFiles.Python("-c", "import torch").Output is null)
            Assert.Skip("There is no torch in the python3 here: files made by hand stand for its own (make_torch_files.py).");
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var (output, reason) = TorchFiles.Python(Path.Combine(TorchFiles.Folder, "real_torch.py"), "write", folder.Path);
        Assert.True(output is not null, reason);
        using var expected = JsonDocument.Parse(output);
        foreach (var name in new[] { "zip.pt", "legacy.pt" })
        {
            using var net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1));
            var optimizer = optim.AdamW(net.parameters());
            var rest = fabric.Load(folder[name], new() { ["model"] = net, ["optimizer"] = optimizer, ["step"] = 0 });
            RequireSame(net.state_dict(), expected.RootElement, TorchName);
            Assert.Equal(0.25, optimizer.ParamGroups.First().LearningRate);
            Assert.Equal("Float32[3,2] 00000000000040400000803F00008040000000400000A040", Checkpoints.Fingerprint((Tensor)rest["transposed"]!));
            fabric.Save(folder["ours"], new() { ["model"] = net });
            var (read, why) = TorchFiles.Python(Path.Combine(TorchFiles.Folder, "real_torch.py"), "read", folder["ours/model.safetensors"]);
            Assert.True(read is not null, why);
            using var found = JsonDocument.Parse(read);
            if (found.RootElement.ValueKind != JsonValueKind.Null)
                RequireSame(net.state_dict(), found.RootElement, TorchName);
        }
    }

    private static JsonElement Read(string path)
    {
        var (output, reason) = TorchFiles.Python(Path.Combine(TorchFiles.Folder, "read_safetensors.py"), path);
        Assert.True(output is not null, reason);
        using var document = JsonDocument.Parse(output);
        return document.RootElement.Clone();
    }

    private static List<string> Lines(JsonElement tensors) =>
        [.. tensors.EnumerateObject().Select(tensor => $"{tensor.Name} [{string.Join(',', tensor.Value[1].EnumerateArray())}] {tensor.Value[2]}").Order(StringComparer.Ordinal)];

    private static void RequireSame(Dictionary<string, Tensor> tensors, JsonElement found, Func<ScalarType, string> nameOf)
    {
        Assert.Equal(tensors.Keys.Order(StringComparer.Ordinal), found.EnumerateObject().Select(tensor => tensor.Name).Order(StringComparer.Ordinal));
        foreach (var (name, tensor) in tensors)
        {
            var row = found.GetProperty(name);
            Assert.Equal(nameOf(tensor.dtype), row[0].GetString());
            Assert.Equal($"{tensor.dtype}[{string.Join(',', row[1].EnumerateArray())}] {row[2].GetString()}", Checkpoints.Fingerprint(tensor));
        }
    }

    private static string StoredName(ScalarType type) => SafetensorsType.NameOf(type)!;

    private static string TorchName(ScalarType type) => $"torch.{TorchElement.All.Single(element => element.Type == type).Name}";
}
