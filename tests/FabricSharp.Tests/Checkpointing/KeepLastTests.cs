using FabricSharp.Checkpointing;

namespace FabricSharp.Tests.Checkpointing;

public class KeepLastTests
{
    [Fact]
    public void Save_KeepLast_RemovesOlderOnesOfTheFamilyOnly()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        foreach (var name in new[] { "step-1", "step-2", "step-9", "step-10", "step-x-3", "best-1", "step", "step-200" })
            fabric.Save(folder[name], new() { ["name"] = name });
        Directory.CreateDirectory(folder["step-3"]); // of something else
        File.WriteAllText(folder["step-3/notes"], "");
        File.WriteAllText(folder["step-4"], "");
        fabric.Save(folder["step-11"], new() { ["name"] = "step-11" }, keepLast: 2);
        Assert.Equal(["best-1", "step", "step-10", "step-11", "step-200", "step-3", "step-4", "step-x-3"], folder.Names);
        Assert.Equal(folder["step-200"], Checkpoint.Latest(folder["step-"]));
        Assert.Null(Checkpoint.Latest(folder["none-"]));
        Assert.Null(Checkpoint.Latest(folder["no/folder-"]));
    }

    [Fact]
    public void Save_KeepLastThatFails_RemovesNothing()
    {
        using var folder = new TemporaryFolder();
        for (var step = 1; step <= 2; step++)
            Checkpoint.Save(folder[$"step-{step}"], []);
        Directory.CreateDirectory(folder["step-3"]);
        File.WriteAllText(folder["step-3/notes"], "");
        Assert.Throws<ArgumentException>(() => Checkpoint.Save(folder["step-3"], [], keepLast: 1));
        Assert.Equal(["step-1", "step-2", "step-3"], folder.Names);
    }

    [Fact]
    public void Save_KeepLastOverTheSameName_KeepsIt()
    {
        using var folder = new TemporaryFolder();
        for (var i = 0; i < 3; i++)
            Checkpoint.Save(folder["step=007"], [], keepLast: 1);
        Assert.Equal(["step=007"], folder.Names);
    }

    [Fact]
    public void Save_KeepLastWhereAnOlderOneWasBeingReplaced_RemovesThatToo()
    {
        using var folder = new TemporaryFolder();
        Checkpoint.Save(folder["step-1"], []);
        Directory.Move(folder["step-1"], folder["step-1.fabric-old"]);
        Assert.Equal(folder["step-1"], Checkpoint.Latest(folder["step-"]));
        Checkpoint.Save(folder["step-2"], [], keepLast: 1);
        Assert.Equal(["step-2"], folder.Names);
    }

    [Theory]
    [InlineData("last", 1)]
    [InlineData("epoch5", 1)]
    [InlineData("epoch-5", 0)]
    [InlineData("epoch-99999999999999999999999", 1)]
    public void Save_KeepLastThatCannotBe_IsRefusedBeforeAnythingIsDone(string name, int keepLast)
    {
        using var folder = new TemporaryFolder();
        Assert.ThrowsAny<ArgumentException>(() => Checkpoint.Save(folder[name], [], keepLast: keepLast));
        Assert.Empty(folder.Names);
    }
}
