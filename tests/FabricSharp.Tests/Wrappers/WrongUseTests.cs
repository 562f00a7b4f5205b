using FabricSharp.Strategies;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Wrappers;

/// <summary>Each mistake has an error that says what to write instead.</summary>
public class WrongUseTests
{
    [Fact]
    public void Setup_ModuleOrOptimizerTwice_SaysWhatToWrite()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var net = nn.Linear(2, 2);
        var original = optim.SGD(net.parameters(), 0.1);
        var (model, optimizer) = fabric.Setup(net, original);
        foreach (var call in new Action[] { () => fabric.Setup(net), () => fabric.Setup(model), () => fabric.SetupModule(net) })
            Says(Assert.Throws<ArgumentException>(call), "A model should be passed only once to the `Setup` methods", "`var model = fabric.Setup(module);`");
        foreach (var call in new Action[] { () => fabric.SetupOptimizers(original), () => fabric.SetupOptimizers(optimizer) })
            Says(Assert.Throws<ArgumentException>(call), "An optimizer should be passed only once to the `Setup` methods", "`var (model, optimizer) = fabric.Setup(module, optimizer);`");
    }

    [Fact]
    public void Setup_OptimizerOfAnotherModel_IsRefusedBeforeAnythingIsSetUp()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var (net, other) = (nn.Linear(2, 2), nn.Linear(2, 2));
        Says(Assert.Throws<ArgumentException>(() => fabric.Setup(net, optim.SGD(other.parameters(), 0.1))), "SGD trains none of the parameters of Linear", "torch.optim.SGD(module.parameters())");
        fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
    }

    [Fact]
    public void Setup_OptimizerFromBeforeAConversion_IsRefused()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var net = nn.Linear(2, 2);
        var optimizer = optim.Adam([.. net.parameters()], 0.1);
        ((nn.Module)net).to(ScalarType.Float64);
        Says(Assert.Throws<ArgumentException>(() => fabric.Setup(net, optimizer, optim.SGD(net.parameters(), 0.1))), "Adam", "before `module.to(…)`");
    }

    [Fact]
    public void SetupOptimizers_None_IsRefused()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        Says(Assert.Throws<ArgumentException>(() => fabric.SetupOptimizers()), "`SetupOptimizers` requires at least one optimizer as input.");
    }

    [Fact]
    public void Backward_BeforeSetup_SaysWhatToWrite() => Ranks.Run(2, fabric =>
        Says(Assert.Throws<InvalidOperationException>(() => fabric.Backward(ones(1).requires_grad_().sum())), "before any model was set up", "fabric.Setup(module, optimizer)"));

    [Fact]
    public void Backward_OneDevice_NeedsNoSetup()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        var x = ones(2).requires_grad_();
        fabric.Backward(x.sum());
        Assert.Equal([1, 1], x.grad!.data<float>().ToArray());
    }

    [Fact]
    public void Backward_ForwardThroughTheOriginal_IsDetected() => Ranks.Run(2, fabric =>
    {
        var net = nn.Linear(2, 2);
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
        Says(Assert.Throws<InvalidOperationException>(() => fabric.Backward(net.call(ones(1, 2)).sum())), "its forward pass ran around the strategy", "`model.call(…)`");
        optimizer.zero_grad();
        fabric.Backward(model.call(ones(1, 2)).sum());
        optimizer.step();
    });

    [Fact]
    public void Step_PlainBackwardOfTheOriginalsOutput_IsDetected() => Ranks.Run(2, fabric =>
    {
        var net = nn.Linear(2, 2);
        var (_, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
        net.forward(ones(1, 2)).sum().backward();
        Says(Assert.Throws<InvalidOperationException>(() => optimizer.step()), "its forward pass ran around the strategy", "model.Invoke");
    });

    [Fact]
    public void Backward_OtherModelWithGradientsFromBefore_IsFine() => Ranks.Run(2, fabric =>
    {
        var (frozen, net) = (nn.Linear(2, 2), nn.Linear(2, 2));
        frozen.call(ones(1, 2)).sum().backward();
        fabric.Setup(frozen);
        var model = fabric.Setup(net);
        fabric.Backward(model.call(ones(1, 2)).sum());
    });

    [Fact]
    public void Backward_ModelNotCalledYet_IsFine() => Ranks.Run(2, fabric =>
    {
        var (generator, critic) = (nn.Linear(2, 2), nn.Linear(2, 2));
        fabric.Setup(generator);
        var model = fabric.Setup(critic);
        fabric.Backward(model.call(ones(1, 2)).sum());
    });

    [Fact]
    public void NoBackwardSync_ModuleNotSetUp_SaysWhatToWrite()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        Says(Assert.Throws<ArgumentException>(() => fabric.NoBackwardSync(nn.Linear(2, 2))), "You need to set up the model first", "`var model = fabric.Setup(module);`");
    }

    [Fact]
    public void Setup_NothingToTrain_SaysWhatToDo() => Ranks.Run(2, fabric =>
        Says(Assert.Throws<InvalidOperationException>(() => fabric.Setup(nn.ReLU())), "doesn't have any parameter that requires a gradient", "without `Setup`"));

    [Fact]
    public void Members_BeforeLaunch_SayWhatToWrite()
    {
        using var fabric = new Fabric("cpu", strategy: "ddp", devices: 2);
        var (net, x) = (nn.Linear(2, 2), ones(1).requires_grad_());
        Action[] calls =
        [
            () => fabric.Setup(net), () => fabric.SetupModule(net), () => fabric.SetupOptimizers(optim.SGD(net.parameters(), 0.1)), () => fabric.Backward(x.sum()),
            fabric.Barrier, () => fabric.Broadcast(1), () => fabric.Broadcast(x), () => fabric.AllReduce(1.0), () => fabric.AllReduce(x), () => fabric.AllReduce(new List<int>()),
            () => fabric.AllGather(x), () => fabric.AllGather(new List<Tensor>()), () => fabric.RankZeroFirst(), () => fabric.InitModule(),
            () => fabric.Save("x", []), () => fabric.Load("x"), () => fabric.LoadRaw("x", net),
        ];
        Assert.All(calls, call => Says(Assert.Throws<InvalidOperationException>(call), "To use Fabric with more than one device, you must call `.Launch()`", "`fabric.Launch();`"));
    }

    [Fact]
    public void Launch_Twice_SaysWhatToWrite()
    {
        using var fabric = new Fabric("cpu", devices: 1);
        fabric.Launch();
        Says(Assert.Throws<InvalidOperationException>(() => fabric.Launch()), "The launcher can only create subprocesses once", "`fabric.Launch();` once");
        Says(Assert.Throws<InvalidOperationException>(() => fabric.Launch(_ => 1)), "The launcher can only create subprocesses once");
    }

    [Theory]
    [InlineData("ddp_spawn")]
    [InlineData("ddp_notebook")]
    public void Launch_WithoutTheFunctionItNeeds_SaysWhatToWrite(string strategy)
    {
        using var fabric = new Fabric("cpu", strategy: strategy, devices: 2);
        Says(Assert.Throws<InvalidOperationException>(() => fabric.Launch()), "`.Launch()` needs to be called with a function", "fabric.Launch(f =>");
    }

    [Fact]
    public void Members_AfterDispose_SaySo()
    {
        var fabric = new Fabric("cpu", devices: 1);
        var (net, x) = (nn.Linear(2, 2), ones(1).requires_grad_());
        var model = fabric.Setup(net);
        fabric.Dispose();
        fabric.Dispose();
        Action[] calls =
        [
            () => fabric.Launch(), () => fabric.Setup(nn.Linear(2, 2)), () => fabric.Backward(x.sum()), fabric.Barrier, () => fabric.Broadcast(1), () => fabric.AllReduce(1.0), () => fabric.AllGather(x),
            () => fabric.Print("x"), () => fabric.ToDevice(x), () => fabric.Autocast(), () => fabric.NoBackwardSync(model), () => fabric.InitTensor(), () => fabric.InitModule(), () => fabric.RankZeroFirst(),
            () => fabric.Call("OnEnd"), () => fabric.Log("x", 1), () => fabric.SetupDataLoaders(new IterableDataLoader(utils.data.TensorDataset(x), 1)), () => fabric.Save("x", []),
        ];
        Assert.All(calls, call => Says(Assert.Throws<ObjectDisposedException>(call), "after this Fabric was disposed", "new Fabric(…)"));
    }

    [Fact]
    public void Strategy_OfAnotherFabric_IsRefused()
    {
        var strategy = new SingleDeviceStrategy();
        using var fabric = new Fabric("cpu", strategy, 1);
        Says(Assert.Throws<InvalidOperationException>(() => new Fabric("cpu", strategy, 1)), "belongs to another Fabric", "one strategy object per Fabric");
    }

    private static void Says(Exception e, params string[] parts) => Assert.All(parts, part => Assert.Contains(part, e.Message, StringComparison.Ordinal));
}
