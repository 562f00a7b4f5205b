using FabricSharp.Checkpointing;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class AsyncSaveTests
{
    [Fact]
    public async Task SaveAsync_TrainingGoesOn_SavesWhatWasThereAtTheCall()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        var before = Checkpoints.Fingerprint(net);
        var save = fabric.SaveAsync(folder["c"], new() { ["model"] = net });
        using (no_grad())
            foreach (var parameter in net.parameters())
                parameter.fill_(9);
        await save;
        Assert.True(save.IsCompleted);
        Assert.Equal(folder["c"], save.Path);
        fabric.Load(folder["c"], new() { ["model"] = net });
        Assert.Equal(before, Checkpoints.Fingerprint(net));
    }

    [Fact]
    public void SaveAsync_Tensors_AreDisposedAgain()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var scope = NewDisposeScope();
        var big = zeros(1000, 10).t();
        var save = fabric.SaveAsync(folder["c"], new() { ["big"] = big });
        save.Wait();
        Assert.Equal(1, scope.DisposablesCount - 1); // zeros and its transposed: no copy belongs to the user's scope
        Assert.Equal([10, 1000], ((Tensor)fabric.Load(folder["c"])["big"]!).shape);
    }

    [Fact]
    public void SaveAsync_Twice_TheSecondWaitsForTheFirst()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var first = fabric.SaveAsync(folder["step-1"], new() { ["x"] = zeros(1_000_000) }, keepLast: 1);
        var second = fabric.SaveAsync(folder["step-2"], new() { ["x"] = zeros(10) }, keepLast: 1);
        Assert.True(first.IsCompleted);
        second.Wait();
        second.Wait(); // nothing more to tell
        Assert.Equal(["step-2"], folder.Names);
    }

    [Fact]
    public void SaveAsync_Fails_IsToldOnceAtTheNextCall()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        File.WriteAllText(folder["file"], "");
        var save = fabric.SaveAsync(folder["file/c"], new() { ["epoch"] = 1 });
        Assert.Contains(folder["file/c"], Checkpoints.Fails(() => fabric.Save(folder["d"], [])).Message);
        Assert.Equal(["file"], folder.Names);
        save.Wait();
        fabric.Save(folder["d"], []);
    }

    [Fact]
    public void SaveAsync_WhatCannotBeSaved_ThrowsAtOnce()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        Assert.Throws<ArgumentException>(() => fabric.SaveAsync(folder["c"], new() { ["x"] = new List<Tensor> { ones(1) } }));
        fabric.Save(folder["c"], []);
    }

    [Fact]
    public void Dispose_SaveUnderWay_WaitsForIt()
    {
        using var folder = new TemporaryFolder();
        var fabric = Checkpoints.OneRank();
        fabric.SaveAsync(folder["c"], new() { ["x"] = zeros(2_000_000) });
        fabric.Dispose();
        Assert.Equal(["c"], folder.Names);
        Assert.True(File.Exists(folder["c/manifest.json"]));
    }

    [Fact]
    public void Wait_LimitPasses_SaysSoAndCanBeWaitedForAgain()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var released = new ManualResetEventSlim();
        var save = PendingSave.Begin(new CheckpointPlace(folder["c"]), new Slow(released), null, (_, _) => { });
        Assert.Contains("is still being written", Checkpoints.Fails(() => save.FinishLocally(TimeSpan.FromMilliseconds(1))).Message);
        released.Set();
        save.FinishLocally(TimeSpan.FromSeconds(30));
        Assert.Equal(["c"], folder.Names);
    }

    [Fact]
    public void SaveAsync_TwoRanks_FailureReachesBothByWaitOrAwait()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["file"], "");
        var failures = new Exception?[2, 2];
        using var fabric = new Fabric(accelerator: "cpu", devices: 2, strategy: "ddp_notebook");
        fabric.Launch(f =>
        {
            var save = f.SaveAsync(folder["file/c"], new() { ["epoch"] = 1 });
            failures[f.GlobalRank, 0] = Record.Exception(() => save.Wait());
            failures[f.GlobalRank, 1] = Record.Exception(() => Await(f.SaveAsync(folder["file/c"], new() { ["epoch"] = 1 })).GetAwaiter().GetResult());
            Await(f.SaveAsync(folder["c"], new() { ["random"] = new RandomState() })).GetAwaiter().GetResult();
        });
        foreach (var failure in failures)
            Assert.Contains(folder["file/c"], Assert.IsType<CheckpointException>(failure).Message);
        Assert.StartsWith("Rank 0: ", failures[1, 0]!.Message);
        Assert.Equal(["c", "file"], folder.Names);
    }

    private static async Task Await(PendingSave save) => await save;

    /// <summary>Nothing to save, which takes until it is released to find out.</summary>
    private sealed class Slow(ManualResetEventSlim released) : IReadOnlyList<SavedEntry>
    {
        public int Count => 0;

        public SavedEntry this[int index] => throw new InvalidOperationException();

        public IEnumerator<SavedEntry> GetEnumerator()
        {
            Assert.True(released.Wait(TimeSpan.FromSeconds(30)));
            yield break;
        }

        System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
