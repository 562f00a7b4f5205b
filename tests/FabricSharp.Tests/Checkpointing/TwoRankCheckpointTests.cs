using FabricSharp.Checkpointing;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class TwoRankCheckpointTests
{
    [Fact]
    public void Save_TwoRanks_LoadsInOneProcessAndBack()
    {
        using var folder = new TemporaryFolder();
        var trained = OnTwoRanks(fabric =>
        {
            var net = Checkpoints.Net();
            var (model, optimizer) = fabric.Setup(net, optim.AdamW(net.parameters(), 0.01));
            for (var step = 0; step < 3; step++)
            {
                optimizer.zero_grad();
                fabric.Backward(model.call(rand(4, 2)).pow(2).mean());
                optimizer.step();
            }

            fabric.Save(folder["c"], new() { ["model"] = model, ["optimizer"] = optimizer, ["epoch"] = fabric.GlobalRank });
            Assert.True(File.Exists(folder["c/manifest.json"])); // whichever rank this is
            return Checkpoints.Fingerprint(net);
        });

        using var one = Checkpoints.OneRank();
        using var alone = Checkpoints.Net();
        var state = new Dictionary<string, object?> { ["model"] = alone, ["optimizer"] = optim.AdamW(alone.parameters(), 1), ["epoch"] = -1 };
        one.Load(folder["c"], state);
        Assert.Equal(trained, Checkpoints.Fingerprint(alone));
        Assert.Equal(0, state["epoch"]); // rank 0's

        one.Save(folder["d"], new() { ["model"] = alone });
        OnTwoRanks(fabric =>
        {
            var model = fabric.Setup(Checkpoints.Net());
            fabric.Load(folder["d"], new() { ["model"] = model });
            Assert.Equal(trained, Checkpoints.Fingerprint(model));
            return true;
        });
    }

    [Fact]
    public void Save_ThatFailsOnRankZero_FailsOnBothAndTheyGoOn()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["file"], "");
        var failures = new Exception?[2];
        OnTwoRanks(fabric =>
        {
            failures[fabric.GlobalRank] = Record.Exception(() => fabric.Save(folder["file/c"], new() { ["epoch"] = 1 }));
            fabric.Barrier();
            fabric.Save(folder["c"], new() { ["epoch"] = 1 });
            return true;
        });
        Assert.All(failures, failure => Assert.Contains(folder["file/c"], Assert.IsType<CheckpointException>(failure).Message));
        Assert.StartsWith("Rank 0: ", failures[1]!.Message);
        Assert.True(File.Exists(folder["c/manifest.json"]));
    }

    [Fact]
    public void Save_OfWhatCannotBeSaved_IsAnArgumentExceptionOnBoth()
    {
        using var folder = new TemporaryFolder();
        var failures = new Exception?[2];
        OnTwoRanks(fabric =>
        {
            failures[fabric.GlobalRank] = Record.Exception(() => fabric.Save(folder["c"], new() { ["x"] = new List<Tensor> { ones(1) } }));
            return true;
        });
        Assert.All(failures, failure => Assert.Contains("state[\"x\"]", Assert.IsType<ArgumentException>(failure).Message));
    }

    [Fact]
    public void Load_ThatFailsOnOneRank_ChangesNothingOnTheOther()
    {
        using var folder = new TemporaryFolder();
        var failures = new Exception?[2];
        var unchanged = new bool[2];
        using (var one = Checkpoints.OneRank())
            one.Save(folder["c"], new() { ["model"] = Checkpoints.Net() });
        OnTwoRanks(fabric =>
        {
            var net = Checkpoints.Net(hidden: fabric.GlobalRank == 0 ? 3 : 4);
            var before = Checkpoints.Fingerprint(net);
            failures[fabric.GlobalRank] = Record.Exception(() => fabric.Load(folder["c"], new() { ["model"] = net }));
            unchanged[fabric.GlobalRank] = before == Checkpoints.Fingerprint(net);
            return true;
        });
        Assert.All(failures, failure => Assert.Contains("F32[3,2] in the file, but F32[4,2] here", Assert.IsType<CheckpointException>(failure).Message));
        Assert.StartsWith("Rank 1: ", failures[0]!.Message);
        Assert.Equal([true, true], unchanged);
    }

    private static T OnTwoRanks<T>(Func<Fabric, T> function)
    {
        using var fabric = new Fabric(accelerator: "cpu", devices: 2, strategy: "ddp_notebook");
        return fabric.Launch(function);
    }
}
