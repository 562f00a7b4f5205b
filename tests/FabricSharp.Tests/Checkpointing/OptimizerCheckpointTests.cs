using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing;

public class OptimizerCheckpointTests
{
    private static readonly Dictionary<string, Func<IEnumerable<Parameter>, OptimizerHelper>> Makers = new()
    {
        ["SGD"] = p => optim.SGD(p, 0.05),
        ["SGD momentum"] = p => optim.SGD(p, 0.05, momentum: 0.9, weight_decay: 0.01, nesterov: true),
        ["Adam"] = p => optim.Adam(p, 0.01),
        ["Adam amsgrad"] = p => optim.Adam(p, 0.01, amsgrad: true, weight_decay: 0.1),
        ["AdamW"] = p => optim.AdamW(p, 0.01),
        ["AdamW amsgrad"] = p => optim.AdamW(p, 0.01, amsgrad: true),
        ["Adagrad"] = p => optim.Adagrad(p, 0.05, lr_decay: 0.1),
        ["Adadelta"] = p => optim.Adadelta(p, 0.5),
        ["Adamax"] = p => optim.Adamax(p, 0.01),
        ["ASGD"] = p => optim.ASGD(p, 0.05, t0: 3),
        ["NAdam"] = p => optim.NAdam(p, 0.01),
        ["RAdam"] = p => optim.RAdam(p, 0.01),
        ["RMSprop"] = p => optim.RMSProp(p, 0.01),
        ["RMSprop centered"] = p => optim.RMSProp(p, 0.01, momentum: 0.9, centered: true),
        ["Rprop"] = p => optim.Rprop(p, 0.01),
    };

    public static TheoryData<string> Names => [.. Makers.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void Load_EachOptimizer_TheNextFiveStepsAreThoseOfTheUninterruptedRun(string name)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var model = new PartlyUsed();
        using var optimizer = Makers[name](model.parameters());
        Train(model, optimizer, 0, 6);
        optimizer.ParamGroups.First().LearningRate *= 0.5; // as a scheduler does
        fabric.Save(folder["c"], new() { ["model"] = model, ["optimizer"] = optimizer });
        Train(model, optimizer, 6, 5);

        using var resumed = new PartlyUsed();
        using var other = Makers[name](resumed.parameters());
        using (NewDisposeScope()) // what is loaded in a scope must outlive it
            fabric.Load(folder["c"], new() { ["model"] = resumed, ["optimizer"] = other });
        Train(resumed, other, 6, 5);
        Assert.Equal(Checkpoints.Fingerprint(model), Checkpoints.Fingerprint(resumed));
        Assert.Equal(optimizer.ParamGroups.First().LearningRate, other.ParamGroups.First().LearningRate);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Load_IntoAnOptimizerThatWentOn_GoesBack(string name)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var model = new PartlyUsed();
        using var optimizer = Makers[name](model.parameters());
        fabric.Save(folder["c"], new() { ["model"] = model, ["optimizer"] = optimizer });
        Train(model, optimizer, 0, 5);
        var expected = Checkpoints.Fingerprint(model);
        Train(model, optimizer, 5, 3);
        fabric.Load(folder["c"], new() { ["model"] = model, ["optimizer"] = optimizer });
        Train(model, optimizer, 0, 5);
        Assert.Equal(expected, Checkpoints.Fingerprint(model));
    }

    [Fact]
    public void Load_WrappedOptimizerWithGroups_RestoresTheOptionsOfEachGroup()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        var saved = Grouped(net, 0.1, 0.2);
        fabric.Save(folder["c"], new() { ["optimizer"] = fabric.SetupOptimizers(saved)[0] });
        using var other = Checkpoints.Net();
        var fresh = Grouped(other, 1, 1);
        fabric.Load(folder["c"], new() { ["optimizer"] = fabric.SetupOptimizers(fresh)[0] });
        Assert.Equal([0.1, 0.2], fresh.ParamGroups.Select(group => group.LearningRate));
        Assert.Equal([0.1, 0.2], fresh.ParamGroups.Select(group => group.InitialLearningRate));
    }

    [Fact]
    public void Load_OptimizerOfAnotherType_NamesBoth()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        fabric.Save(folder["c"], new() { ["optimizer"] = optim.Adam(net.parameters()) });
        var message = Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["optimizer"] = optim.SGD(net.parameters(), 0.1) })).Message;
        Assert.Contains("optimizer Adam, which cannot be loaded into an SGD", message);
    }

    [Fact]
    public void Load_OptimizerOfOtherParameters_ShowsBothAndChangesNothing()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        fabric.Save(folder["c"], new() { ["optimizer"] = optim.Adam(nn.Linear(2, 1).parameters(), 0.5) });
        using var optimizer = optim.Adam(nn.Linear(2, 3).parameters(), 0.25);
        var message = Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["optimizer"] = optimizer })).Message;
        Assert.Contains("F32[1,2] F32[1]", message);
        Assert.Contains("F32[3,2] F32[3]", message);
        Assert.Equal(0.25, optimizer.ParamGroups.First().LearningRate);
    }

    [Theory]
    [InlineData("c")]
    [InlineData("c/optimizer.safetensors")]
    public void LoadRaw_FolderOrFile_RestoresTheOptimizer(string path)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        fabric.Save(folder["c"], new() { ["model"] = net, ["optimizer"] = optim.Adam(net.parameters(), 0.5) });
        using var optimizer = optim.Adam(net.parameters(), 0.25);
        fabric.LoadRaw(folder[path], optimizer);
        Assert.Equal(0.5, optimizer.ParamGroups.First().LearningRate);
    }

    [Fact]
    public void LoadRaw_ModuleFileIntoOptimizer_SaysThatItIsNone()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        fabric.Save(folder["c"], new() { ["model"] = net });
        Assert.Contains("no optimizer's state", Checkpoints.Fails(() => fabric.LoadRaw(folder["c/model.safetensors"], optim.Adam(net.parameters()))).Message);
    }

    private static OptimizerHelper Grouped(nn.Module net, double first, double second) => optim.Adam(
    [
        new Adam.ParamGroup(net.parameters().Take(2), lr: first), new Adam.ParamGroup(net.parameters().Skip(2), lr: second),
    ]);

    /// <summary>The batches depend on the step alone; the first steps do not use the second layer, no step uses the third.</summary>
    private static void Train(PartlyUsed model, optim.Optimizer optimizer, int first, int steps)
    {
        for (var step = first; step < first + steps; step++)
        {
            using var scope = NewDisposeScope();
            var input = (arange(8, ScalarType.Float32).reshape(4, 2) + step).sin();
            model.zero_grad();
            var hidden = model.a.call(input);
            (step < 2 ? hidden : model.b.call(hidden)).pow(2).mean().backward();
            optimizer.step();
        }
    }

    private sealed class PartlyUsed : nn.Module
    {
        public readonly Linear a = nn.Linear(2, 3);
        public readonly Linear b = nn.Linear(3, 2);
        public readonly Linear never = nn.Linear(2, 2);

        public PartlyUsed()
            : base(nameof(PartlyUsed)) => RegisterComponents();
    }
}
