using FabricSharp.Strategies;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Wrappers;

public sealed class FabricModuleTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Fabric _fabric = new("cpu", "auto", 1);

    private static readonly Dictionary<string, Func<Fabric, (nn.Module Original, nn.Module Wrapped, Func<Tensor, Tensor> Call, Func<Func<SummandParts, Tensor>, Tensor> Invoke)>> Arities = new()
    {
        ["1 inputs"] = fabric =>
        {
            var module = new Sum1();
            var wrapped = fabric.SetupModule(module);
            return (module, wrapped, x => wrapped.call(x), use => wrapped.Invoke((Sum1 m) => use(m.Parts)));
        },
        ["2 inputs"] = fabric =>
        {
            var module = new Sum2();
            var wrapped = fabric.SetupModule(module);
            return (module, wrapped, x => wrapped.call(x, x), use => wrapped.Invoke((Sum2 m) => use(m.Parts)));
        },
        ["3 inputs"] = fabric =>
        {
            var module = new Sum3();
            var wrapped = fabric.SetupModule(module);
            return (module, wrapped, x => wrapped.call(x, x, x), use => wrapped.Invoke((Sum3 m) => use(m.Parts)));
        },
        ["4 inputs"] = fabric =>
        {
            var module = new Sum4();
            var wrapped = fabric.SetupModule(module);
            return (module, wrapped, x => wrapped.call(x, x, x, x), use => wrapped.Invoke((Sum4 m) => use(m.Parts)));
        },
        ["5 inputs"] = fabric =>
        {
            var module = new Sum5();
            var wrapped = fabric.SetupModule(module);
            return (module, wrapped, x => wrapped.call(x, x, x, x, x), use => wrapped.Invoke((Sum5 m) => use(m.Parts)));
        },
        ["6 inputs"] = fabric =>
        {
            var module = new Sum6();
            var wrapped = fabric.SetupModule(module);
            return (module, wrapped, x => wrapped.call(x, x, x, x, x, x), use => wrapped.Invoke((Sum6 m) => use(m.Parts)));
        },
    };

    public static TheoryData<string> ArityNames => [.. Arities.Keys];

    public void Dispose()
    {
        _fabric.Dispose();
        _scope.Dispose();
    }

    [Theory]
    [MemberData(nameof(ArityNames))]
    public void Names_OfParametersBuffersAndState_AreTheOriginals(string arity)
    {
        var (original, wrapped, _, _) = Arities[arity](_fabric);
        Assert.Contains("_parts.scale", wrapped.named_parameters().Select(p => p.name));
        Assert.Equal(original.named_parameters().Select(p => p.name), wrapped.named_parameters().Select(p => p.name));
        Assert.Equal(original.parameters().Select(p => p.Handle), wrapped.parameters().Select(p => p.Handle));
        Assert.Equal(original.named_buffers().Select(b => b.name), wrapped.named_buffers().Select(b => b.name));
        Assert.Equal(original.buffers().Select(b => b.Handle), wrapped.buffers().Select(b => b.Handle));
        Assert.Equal(original.state_dict().Keys, wrapped.state_dict().Keys);
        Assert.Equal(original.named_modules().Select(m => m.name), wrapped.named_modules().Select(m => m.name));
        Assert.Equal(original.modules(), wrapped.modules());
        Assert.Equal(original.named_children().Select(m => m.name), wrapped.named_children().Select(m => m.name));
        Assert.Equal(original.children(), wrapped.children());
        Assert.Equal(original.GetName(), wrapped.GetName());
    }

    [Theory]
    [MemberData(nameof(ArityNames))]
    public void Call_Always_IsTheOriginalsForward(string arity)
    {
        var (original, _, call, invoke) = Arities[arity](_fabric);
        var inputs = int.Parse(arity[..1]);
        var parts = (SummandParts)original.named_modules().Single(m => m.name == "_parts").module;
        var x = randn(4, 3);
        Assert.True(parts.call(x * inputs).allclose(call(x)));
        Assert.True(parts.Twice(x).Equals(invoke(m => m.Twice(x))));
    }

    [Theory]
    [MemberData(nameof(ArityNames))]
    public void TrainAndEval_OnTheWrapper_ReachTheOriginal(string arity)
    {
        var (original, wrapped, _, _) = Arities[arity](_fabric);
        wrapped.eval();
        Assert.False(original.training || wrapped.training || original.children().Any(m => m.training));
        wrapped.train();
        Assert.True(original.training && wrapped.training && original.children().All(m => m.training));
        original.train(false);
        Assert.False(wrapped.training);
    }

    [Theory]
    [MemberData(nameof(ArityNames))]
    public void State_LoadedIntoTheWrapper_ReachesTheOriginal(string arity)
    {
        var (original, wrapped, _, _) = Arities[arity](_fabric);
        var state = wrapped.state_dict().ToDictionary(entry => entry.Key, entry => full_like(entry.Value, 3));
        var (missing, unexpected) = wrapped.load_state_dict(state);
        Assert.Empty(missing.Concat(unexpected));
        Assert.All(original.state_dict().Values, value => Assert.True(value.eq(3).all().item<bool>()));
    }

    [Theory]
    [MemberData(nameof(ArityNames))]
    public void ZeroGrad_OnTheWrapper_TakesTheGradientsAway(string arity)
    {
        var (original, wrapped, call, _) = Arities[arity](_fabric);
        _fabric.Backward(call(randn(2, 3)).sum());
        Assert.Contains(original.parameters(), p => p.grad is not null);
        wrapped.zero_grad();
        Assert.All(original.parameters(), p => Assert.Null(p.grad));
    }

    [Theory]
    [MemberData(nameof(ArityNames))]
    public void Unwrap_Always_GivesTheOriginal(string arity)
    {
        var (original, wrapped, _, _) = Arities[arity](_fabric);
        var fabricModule = Assert.IsAssignableFrom<IFabricModule>(wrapped);
        Assert.Same(original, fabricModule.Module);
        Assert.Same(original, fabricModule.Unwrap<nn.Module>());
        Assert.Contains("not a SummandParts", Assert.Throws<InvalidCastException>(() => fabricModule.Unwrap<SummandParts>()).Message);
        Assert.Empty(fabricModule.UnusedParameters.Parameters);
    }

    [Theory]
    [MemberData(nameof(ArityNames))]
    public void Dispose_OfTheWrapper_LeavesTheOriginalAlive(string arity)
    {
        var (original, wrapped, _, _) = Arities[arity](_fabric);
        wrapped.Dispose();
        wrapped.Dispose();
        Assert.All(original.parameters(), p => Assert.False(p.IsInvalid));
        ((SummandParts)original.named_modules().Single(m => m.name == "_parts").module).call(ones(1, 3));
    }

    [Fact]
    public void Apply_OnTheWrapper_VisitsTheOriginalsModules()
    {
        var wrapped = _fabric.SetupModule(new Sum1());
        var visited = new List<string>();
        Assert.Same(wrapped, wrapped.apply(m => visited.Add(m.GetName())));
        Assert.Contains(nameof(SummandParts), visited);
    }

    [Fact]
    public void Call_WithAHookOnTheOriginal_RunsTheHookOnce()
    {
        var module = new Sum1();
        var calls = 0;
        module.register_forward_hook((m, x, y) =>
        {
            calls++;
            return y;
        });
        _fabric.SetupModule(module).call(ones(1, 3));
        Assert.Equal(1, calls);
    }

    [Fact]
    public void Setup_Twice_IsRefused()
    {
        var module = new Sum1();
        var wrapped = _fabric.Setup(module);
        foreach (var again in new Action[] { () => _fabric.Setup(module), () => _fabric.Setup(wrapped), () => _fabric.SetupModule(module), () => _fabric.SetupModule(wrapped) })
        {
            var e = Assert.Throws<ArgumentException>(again);
            Assert.Equal("module", e.ParamName);
            Assert.Contains("A model should be passed only once", e.Message);
        }

        Assert.Throws<ArgumentNullException>(() => _fabric.Setup((nn.Module<Tensor, Tensor>)null!));
    }

    [Fact]
    public void Setup_WithOptimizers_GivesThemBackInOrder()
    {
        var module = new Sum2();
        var (first, second) = (optim.SGD(module.parameters(), 0.1), optim.Adam(module.parameters()));
        var (wrapped, optimizers) = _fabric.Setup(module, [first, second]);
        Assert.Same(module, wrapped.Module);
        Assert.Equal([first, second], optimizers.Select(o => o.Optimizer));
    }

    [Fact]
    public void Setup_BeforeLaunchWithSeveralDevices_SaysWhatIsMissing()
    {
        using var fabric = new Fabric("cpu", "ddp", 2);
        foreach (var use in new Action[] { () => fabric.Setup(new Sum1()), () => fabric.Backward(ones(1)), () => fabric.Barrier(), () => fabric.AllReduce(ones(1)) })
            Assert.Contains("you must call `.Launch()` before", Assert.Throws<InvalidOperationException>(use).Message);
    }

    [Fact]
    public void NoBackwardSync_OnAnOriginal_IsRefused()
    {
        var module = new Sum1();
        Assert.Contains("need to set up the model first", Assert.Throws<ArgumentException>(() => _fabric.NoBackwardSync(module)).Message);
        using (_fabric.NoBackwardSync(_fabric.Setup(module)))
            _fabric.Backward(module.call(ones(1, 3)).sum());
        Assert.Contains(module.parameters(), p => p.grad is not null);
    }

    [Fact]
    public void Strategy_OfOneDevice_IsSingle() => Assert.IsType<SingleDeviceStrategy>(_fabric.Strategy);
}
