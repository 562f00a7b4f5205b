using FabricSharp.Checkpointing;

namespace FabricSharp.Tests.Checkpointing;

public class LeftoverTests
{
    [Fact]
    public void Save_AfterAKilledSaver_RemovesItsFolder()
    {
        using var folder = new TemporaryFolder();
        Leave(folder["step-1.0123456789ab.tmp"], Environment.MachineName);
        Leave(folder["other.0123456789ab.removed"], null);
        Checkpoint.Save(folder["step-2"], []);
        Assert.Equal(["step-2"], folder.Names);
    }

    [Fact]
    public void Save_WhileAnotherSaves_LeavesItsFolder()
    {
        using var folder = new TemporaryFolder();
        Directory.CreateDirectory(folder["step-1.0123456789ab.tmp"]);
        using (Leftovers.Lock(folder["step-1.0123456789ab.tmp"]))
        {
            Checkpoint.Save(folder["step-2"], []);
            Assert.Equal(["step-1.0123456789ab.lock", "step-1.0123456789ab.tmp", "step-2"], folder.Names);
        }

        Assert.Equal(["step-1.0123456789ab.tmp", "step-2"], folder.Names);
    }

    [Fact]
    public void Save_AfterASaverKilledBeforeItsFolderWasMadeOrAfterItHadItsName_RemovesTheLock()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["step-1.0123456789ab.lock"], Environment.MachineName);
        Checkpoint.Save(folder["step-2"], []);
        Assert.Equal(["step-2"], folder.Names);
    }

    [Theory]
    [InlineData("c.0123456789ab.tmp", "another machine", 0, true)]
    [InlineData("c.0123456789ab.tmp", "another machine", 25, false)]
    [InlineData("c.0123456789ab.tmp", null, 0, true)]
    [InlineData("c.0123456789ab.tmp", null, 25, false)]
    [InlineData("thesis.tmp", null, 25, true)]
    [InlineData("c.0123456789ab.tmp.mine", null, 25, true)]
    public void Save_WhatMayBeSomebodysElse_StaysUntilItIsADayOld(string name, string? machine, int hours, bool stays)
    {
        using var folder = new TemporaryFolder();
        Leave(folder[name], machine);
        foreach (var path in Directory.GetFileSystemEntries(folder.Path))
            File.SetLastWriteTimeUtc(path, TimeProvider.System.GetUtcNow().UtcDateTime.AddHours(-hours));
        Checkpoint.Save(folder["new"], []);
        Assert.Equal(stays, Directory.Exists(folder[name]));
    }

    [Fact]
    public void Require_MoreThanThereIs_StatesNeededAndAvailable()
    {
        using var folder = new TemporaryFolder();
        var message = Checkpoints.Fails(() => FreeSpace.Require(new CheckpointPlace(folder["c"]), long.MaxValue)).Message;
        Assert.Contains($"needs {long.MaxValue:N0} bytes", message);
        Assert.Matches(@"only [0-9,.  ]+ bytes are available", message);
    }

    private static void Leave(string folder, string? machine)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "half.safetensors"), "half");
        if (machine is not null)
            File.WriteAllText(Leftovers.LockOf(folder), machine);
    }
}
