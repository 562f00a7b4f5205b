using FabricSharp.Checkpointing;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Checkpointing.PyTorch;

/// <summary>Values of Python's modules and optimizers in TorchSharp's.</summary>
public class TorchLoadTests
{
    [Theory]
    [InlineData("state_dict.pt")]
    [InlineData("legacy.pt")]
    [InlineData("wrapped.pth")] // module._orig_mod.first.weight
    [InlineData("lightning.ckpt")] // state_dict, model.first.weight
    [InlineData("fabric.ckpt")]
    public void LoadRaw_Module_TakesTheValuesOfPython(string name)
    {
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        var parameters = net.parameters().ToList();
        fabric.LoadRaw(TorchFiles.PathOf(name), net);
        RequireValues(net);
        Assert.All(parameters.Zip(net.parameters()), pair => Assert.Same(pair.First, pair.Second));
    }

    [Theory]
    [InlineData("fabric.ckpt", "model", "optimizer")]
    [InlineData("lightning.ckpt", "state_dict", "optimizer_states.0")]
    public void Load_ModuleOptimizerAndValues_FillsTheState(string name, string model, string optimizerKey)
    {
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        using var optimizer = optim.Adam(net.parameters());
        var (module, wrapped) = fabric.Setup<Tensor, Tensor>(net, optimizer);
        var rest = fabric.Load(TorchFiles.PathOf(name), new() { [model] = module, [optimizerKey] = wrapped });
        RequireValues(net);
        Assert.Equal(0.25, optimizer.ParamGroups.First().LearningRate);
        Assert.DoesNotContain(model, rest.Keys);
    }

    [Fact]
    public void Load_KeyThatIsMissing_NamesWhatThereIs()
    {
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        Assert.Contains("'model', 'optimizer', 'step'", Checkpoints.Fails(() => fabric.Load(TorchFiles.PathOf("fabric.ckpt"), new() { ["net"] = net })).Message);
        Assert.Contains("LoadRaw loads them", Checkpoints.Fails(() => fabric.Load(TorchFiles.PathOf("state_dict.pt"), new() { ["model"] = net })).Message);
    }

    [Theory]
    [InlineData("adam.pt", "Adam")]
    [InlineData("fabric.ckpt", "Adam")]
    [InlineData("adamw.pt", "AdamW")]
    public void LoadRaw_Adam_TakesOptionsAndState(string name, string type)
    {
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        OptimizerHelper optimizer = type == "Adam" ? optim.Adam(net.parameters()) : optim.AdamW(net.parameters());
        Step(net, optimizer); // so that the last parameter, which has no state in the file, has one here
        using (NewDisposeScope())
            fabric.LoadRaw(TorchFiles.PathOf(name), optimizer);
        Assert.Equal([0.25, 0.25, 0.8, 0.95, 1e-6, 0.125, false, false], Options(optimizer, "LearningRate", "InitialLearningRate", "beta1", "beta2", "eps", "weight_decay", "amsgrad", "maximize"));
        Assert.Equal([4L, 4L, 4L, 4L, 4L, 0L], States(optimizer, "step"));
        Assert.Equal("Float32[1,3] 000080400000884000009040", Fingerprint(optimizer, 4, "exp_avg"));
        Assert.Equal("Float32[1] 00000000", Fingerprint(optimizer, 5, "exp_avg_sq"));
        Step(net, optimizer);
        Assert.Equal(5L, States(optimizer, "step")[0]);
    }

    [Theory]
    [InlineData("sgd.pt")]
    [InlineData("legacy_fabric.ckpt")]
    public void LoadRaw_Sgd_TakesOptionsAndState(string name)
    {
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        var optimizer = optim.SGD(net.parameters(), 1, momentum: 0.1);
        Step(net, optimizer);
        using (NewDisposeScope())
            fabric.LoadRaw(TorchFiles.PathOf(name), optimizer);
        Assert.Equal([0.25, 0.75, 0.0, 0.0, true, false], Options(optimizer, "LearningRate", "momentum", "dampening", "weight_decay", "nesterov", "maximize"));
        Assert.Equal("Float32[3] 0000803F0000A03F0000C03F", Fingerprint(optimizer, 1, "momentum_buffer"));
        Assert.Null(States(optimizer, "momentum_buffer")[5]);
        Step(net, optimizer);
    }

    [Fact]
    public void LoadRaw_OptimizerOfAnotherKind_IsRefusedAndChangesNothing()
    {
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        using var fewer = nn.Linear(2, 3);
        var sgd = optim.SGD(net.parameters(), 0.5);
        Assert.Contains("another optimizer", Checkpoints.Fails(() => fabric.LoadRaw(TorchFiles.PathOf("adam.pt"), sgd)).Message);
        Assert.Contains("another optimizer", Checkpoints.Fails(() => fabric.LoadRaw(TorchFiles.PathOf("sgd.pt"), optim.Adam(net.parameters()))).Message);
        Assert.Contains("it is of AdamW", Checkpoints.Fails(() => fabric.LoadRaw(TorchFiles.PathOf("adamw.pt"), optim.Adam(net.parameters()))).Message);
        Assert.Contains("6 parameters instead of 2", Checkpoints.Fails(() => fabric.LoadRaw(TorchFiles.PathOf("adam.pt"), optim.Adam(fewer.parameters()))).Message);
        Assert.Contains("SGD, Adam, AdamW", Checkpoints.Fails(() => fabric.LoadRaw(TorchFiles.PathOf("adam.pt"), optim.RMSProp(net.parameters()))).Message);
        Assert.Contains("F32[3,2] in the file, but F32[4,2]", Checkpoints.Fails(() => fabric.LoadRaw(TorchFiles.PathOf("adam.pt"), optim.Adam(Checkpoints.Net(4).parameters()))).Message);
        Assert.Equal(0.5, sgd.ParamGroups.First().LearningRate);
    }

    [Fact]
    public void LoadRaw_TiedWeights_AreLoadedOnceAndNotUnexpected()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        var tensor = TorchFiles.Tensor("0", 4, TorchFiles.Integer(0), TorchFiles.Tuple(2, 2), TorchFiles.Tuple(2, 1));
        File.WriteAllBytes(folder["m.pt"], TorchFiles.Zip(TorchFiles.Pickle($"}}({TorchFiles.Text("encoder.weight")}{tensor}{TorchFiles.Text("decoder.weight")}{tensor}u"), ("0", new byte[16])));
        using var net = nn.Sequential(("encoder", nn.Linear(2, 2, hasBias: false)));
        fabric.LoadRaw(folder["m.pt"], net);
        Assert.Equal(0, net.parameters().First().abs().sum().item<float>());
    }

    [Fact]
    public void LoadRaw_NamesThatDifferInCaseAndUnderscores_AreMatched()
    {
        using var fabric = Checkpoints.OneRank();
        using var net = nn.Sequential(("First", nn.Linear(2, 3)), ("_norm", nn.BatchNorm1d(3)), ("seCond", nn.Linear(3, 1)));
        fabric.LoadRaw(TorchFiles.PathOf("lightning.ckpt"), net);
        RequireValues(net);
    }

    [Fact]
    public void Compare_WhatFits_SaysSoAndNamesWhatWasRenamed()
    {
        using var net = Checkpoints.Net();
        var comparison = Checkpoint.Compare(TorchFiles.PathOf("lightning.ckpt"), net);
        Assert.True(comparison.Fits);
        Assert.Equal("Everything fits.", comparison.ToString());
        Assert.Equal("first.weight", comparison.Renamed["model.first.weight"]);
        Assert.Empty(Checkpoint.Compare(TorchFiles.PathOf("state_dict.pt"), net).Renamed);
    }

    [Fact]
    public void Compare_WhatDoesNotFit_ListsEveryDifference()
    {
        using var net = nn.Sequential(("first", nn.Linear(2, 4)), ("norm", nn.BatchNorm1d(3, dtype: ScalarType.Float64)), ("third", nn.Linear(3, 1)));
        var comparison = Checkpoint.Compare(TorchFiles.PathOf("fabric.ckpt"), net, "model");
        Assert.False(comparison.Fits);
        Assert.Equal(["third.bias", "third.weight"], comparison.Missing.Order());
        Assert.Equal(["second.bias", "second.weight"], comparison.Unexpected.Order());
        Assert.Contains(new TensorMismatch("first.weight", "F32[3,2]", "F32[4,2]"), comparison.Shapes);
        Assert.Contains(new TensorMismatch("norm.weight", "F32[3]", "F64[3]"), comparison.Types);
        Assert.Contains("unexpected: second.bias", comparison.ToString());
        Assert.Contains("different: first.weight is F32[3,2] in the checkpoint, F32[4,2] in the module", comparison.ToString());
    }

    [Fact]
    public void Compare_EntryThatIsMissing_NamesWhatThereIs()
    {
        using var net = Checkpoints.Net();
        Assert.Contains("no entry 'net'. It has: 'model', 'optimizer', 'step'", Checkpoints.Fails(() => Checkpoint.Compare(TorchFiles.PathOf("fabric.ckpt"), net, "net")).Message);
        Assert.Contains("'step' is a value", Checkpoints.Fails(() => Checkpoint.Compare(TorchFiles.PathOf("fabric.ckpt"), net, "step")).Message);
    }

    private static void RequireValues(nn.Module net)
    {
        var values = net.state_dict().OrderBy(value => value.Key.ToLowerInvariant().Trim('_'), StringComparer.Ordinal).Select(value => Checkpoints.Fingerprint(value.Value)).ToList();
        var expected = TorchFiles.ExpectedOf("state_dict.pt").GetProperty("tensors").EnumerateObject().OrderBy(value => value.Name, StringComparer.Ordinal);
        Assert.Equal(expected.Select(value => $"{value.Value[0]}[{string.Join(',', value.Value[1].EnumerateArray())}] {value.Value[2]}"), values);
    }

    private static void Step(Sequential net, optim.Optimizer optimizer)
    {
        net.zero_grad();
        net.call(rand(4, 2)).pow(2).mean().backward();
        optimizer.step();
    }

    private static object?[] Options(OptimizerHelper optimizer, params string[] names)
    {
        var options = new OptimizerParts(optimizer).Groups[0].Options;
        return [.. names.Select(name => OptimizerFields.Of(options).Single(field => OptimizerFields.NameOf(field) == name).GetValue(options))];
    }

    private static object?[] States(OptimizerHelper optimizer, string name) =>
        [.. new OptimizerParts(optimizer).States.Select(state => OptimizerFields.Of(state!).Single(field => OptimizerFields.NameOf(field) == name).GetValue(state))];

    private static string Fingerprint(OptimizerHelper optimizer, int index, string name) => Checkpoints.Fingerprint((Tensor)States(optimizer, name)[index]!);
}
