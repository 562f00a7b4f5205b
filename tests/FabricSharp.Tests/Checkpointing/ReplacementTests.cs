using System.Text.Json;
using FabricSharp.Checkpointing;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class ReplacementTests
{
    [Fact]
    public void Save_MissingParent_IsMade()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["deep/er/c"] + "/", new() { ["epoch"] = 1 });
        Assert.Equal(1, EpochOf(fabric, folder["deep/er/c"]));
    }

    [Fact]
    public void Save_OverCheckpointOrFile_ReplacesItAndLeavesNothingElse()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.WriteAllText(folder["c"], "a file");
        fabric.Save(folder["c"], new() { ["epoch"] = 1, ["model"] = Checkpoints.Net() });
        fabric.Save(folder["c"], new() { ["epoch"] = 2 });
        Assert.Equal(["c"], folder.Names);
        Assert.Equal(["manifest.json", "state.json"], Directory.EnumerateFiles(folder["c"]).Select(Path.GetFileName).Order());
        Assert.Equal(2, EpochOf(fabric, folder["c"]));
    }

    [Fact]
    public void Save_OverAFolderOfSomethingElse_IsRefused()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        Directory.CreateDirectory(folder["thesis"]);
        File.WriteAllText(folder["thesis/chapter1.tex"], "years of work");
        Assert.Contains("no checkpoint", Assert.Throws<ArgumentException>(() => fabric.Save(folder["thesis"], [])).Message);
        Assert.True(File.Exists(folder["thesis/chapter1.tex"]));
        Assert.Equal(["thesis"], folder.Names);
    }

    [Fact]
    public void Save_ThatFailsWhileWriting_LeavesTheOldOneAndNoTemporary()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["epoch"] = 1 });
        var place = new CheckpointPlace(folder["c"]);
        var error = Assert.Throws<IOException>(() => place.Write(temporary =>
        {
            File.WriteAllText(Path.Combine(temporary, "half.safetensors"), "half of it");
            throw new IOException("No space left on device");
        }));
        Assert.Equal("No space left on device", error.Message);
        Assert.Equal(["c"], folder.Names);
        Assert.Equal(1, EpochOf(fabric, folder["c"]));
    }

    [Fact]
    public void Save_ThatFailsWhileSwapping_PutsTheOldOneBack()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["epoch"] = 1 });
        Assert.ThrowsAny<IOException>(() => new CheckpointPlace(folder["c"]).Replace(folder["not there"]));
        Assert.Equal(["c"], folder.Names);
        Assert.Equal(1, EpochOf(fabric, folder["c"]));
    }

    [Fact]
    public void Save_WhereTheParentIsAFile_IsACheckpointException()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.WriteAllText(folder["file"], "");
        var error = Checkpoints.Fails(() => fabric.Save(folder["file/c"], new() { ["epoch"] = 1 }));
        Assert.Contains(folder["file/c"], error.Message);
        Assert.IsAssignableFrom<IOException>(error.InnerException);
    }

    [Fact]
    public void Load_AfterACrashBetweenTheTwoRenames_ReadsTheOldOne()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        CrashBetweenRenames(fabric, folder);
        Assert.Equal(1, EpochOf(fabric, folder["c"]));
    }

    [Fact]
    public void Save_AfterACrashBetweenTheTwoRenames_ReplacesTheOldOne()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        CrashBetweenRenames(fabric, folder);
        fabric.Save(folder["c"], new() { ["epoch"] = 3 });
        Assert.Equal(3, EpochOf(fabric, folder["c"]));
        Assert.False(Directory.Exists(new CheckpointPlace(folder["c"]).OldPath));
    }

    [Fact]
    public void Save_ThatFailsAfterACrash_BringsTheOldOneBack()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        CrashBetweenRenames(fabric, folder);
        Assert.ThrowsAny<IOException>(() => new CheckpointPlace(folder["c"]).Replace(folder["not there"]));
        Assert.True(Directory.Exists(folder["c"]));
        Assert.Equal(1, EpochOf(fabric, folder["c"]));
    }

    [Fact]
    public void Load_AfterACrashBeforeTheOldOneWasRemoved_ReadsTheNewOne()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["epoch"] = 1 });
        Directory.Move(folder["c"], new CheckpointPlace(folder["c"]).OldPath);
        File.Delete(Path.Combine(new CheckpointPlace(folder["c"]).OldPath, "state.json")); // removing it had begun
        fabric.Save(folder["d"], new() { ["epoch"] = 2 });
        Directory.Move(folder["d"], folder["c"]);
        Assert.Equal(2, EpochOf(fabric, folder["c"]));
        fabric.Save(folder["c"], new() { ["epoch"] = 3 });
        Assert.Equal(["c"], folder.Names);
    }

    [Fact]
    public async Task Load_WhileAnotherSaves_AlwaysFindsOneThatIsComplete()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        const int Saves = 40;
        SaveNumber(folder["c"], 0);
        var writer = Task.Run(() => Enumerable.Range(1, Saves).ToList().ForEach(number => SaveNumber(folder["c"], number)));
        for (var last = 0; last < Saves && !writer.IsFaulted;)
        {
            var loaded = fabric.Load(folder["c"]);
            var number = ((JsonElement)loaded["number"]!).GetInt32();
            Assert.Equal(number, ((Tensor)loaded["tensor"]!).item<long>());
            Assert.InRange(number, last, Saves);
            last = number;
        }

        await writer;
    }

    [Theory]
    [InlineData("manifest.json", 2)]
    [InlineData("tensors.safetensors", 2)]
    [InlineData("state.json", 1)]
    public void Open_SavedOverAfterAFileWasOpened_GivesOneSaveWhole(string file, int expected)
    {
        using var folder = new TemporaryFolder();
        SaveNumber(folder["c"], 1);
        var seen = new List<string>();
        using var opened = CheckpointFolder.Open(new CheckpointPlace(folder["c"]), name =>
        {
            if (name == file && !seen.Contains(name))
                SaveNumber(folder["c"], 2);
            seen.Add(name);
        })!;
        using var state = new StreamReader(new FileStream(opened.Take("state.json"), FileAccess.Read));
        using var tensors = new SafetensorsFile("tensors", opened.Take("tensors.safetensors"));
        Assert.Equal(expected, JsonDocument.Parse(state.ReadToEnd()).RootElement.GetProperty("entries").GetProperty("number").GetProperty("value").GetInt32());
        Assert.Equal(expected, tensors.Read("tensor").item<long>());
    }

    [Fact]
    public void Load_NothingThere_SaysSo()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        Assert.Contains($"no checkpoint at '{folder["c"]}'", Checkpoints.Fails(() => fabric.Load(folder["c"])).Message);
    }

    private static void SaveNumber(string path, int number) =>
        CheckpointWriter.Write(path, new Dictionary<string, object?> { ["number"] = number, ["tensor"] = tensor((long)number) });

    private static void CrashBetweenRenames(Fabric fabric, TemporaryFolder folder)
    {
        fabric.Save(folder["c"], new() { ["epoch"] = 1 });
        Directory.Move(folder["c"], new CheckpointPlace(folder["c"]).OldPath);
        fabric.Save(folder["new"], new() { ["epoch"] = 2 });
        Directory.Move(folder["new"], folder["c.0123456789ab.tmp"]);
    }

    private static int EpochOf(Fabric fabric, string path)
    {
        var state = new Dictionary<string, object?> { ["epoch"] = 0 };
        fabric.Load(path, state, strict: true);
        return (int)state["epoch"]!;
    }
}
