using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Wrappers;

public sealed class FabricOptimizerTests : IDisposable
{
    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Fabric _fabric = new("cpu", "auto", 1);
    private readonly Linear _model = nn.Linear(3, 2);

    public void Dispose()
    {
        _fabric.Dispose();
        _scope.Dispose();
    }

    [Fact]
    public void ZeroGrad_Default_TakesGradientsAway()
    {
        var (model, optimizer) = _fabric.Setup(_model, optim.SGD(_model.parameters(), 0.1));
        _fabric.Backward(model.call(ones(1, 3)).sum());
        optimizer.zero_grad();
        Assert.All(_model.parameters(), p => Assert.Null(p.grad));
    }

    [Fact]
    public void ZeroGrad_False_WritesZerosInPlace()
    {
        var (model, optimizer) = _fabric.Setup(_model, optim.SGD(_model.parameters(), 0.1));
        _fabric.Backward(model.call(ones(1, 3)).sum());
        var gradients = _model.parameters().Select(p => p.grad!).ToList();
        optimizer.zero_grad(set_to_none: false);
        Assert.All(_model.parameters(), p => Assert.Equal(0, p.grad!.abs().sum().item<float>()));
        gradients[0].fill_(3);
        Assert.Equal(3, _model.parameters().First().grad![0, 0].item<float>()); // the same memory
    }

    [Fact]
    public void Step_ParameterThatGotNoGradient_IsLeftAloneByMomentumAndDecay()
    {
        var other = nn.Linear(3, 2);
        var (model, optimizer) = _fabric.Setup(_model, optim.SGD(_model.parameters().Concat(other.parameters()), 0.1, momentum: 0.9, weight_decay: 0.1));
        _fabric.Backward((model.call(ones(1, 3)) + other.call(ones(1, 3))).sum());
        optimizer.step();
        optimizer.zero_grad();
        var before = other.weight.clone();
        _fabric.Backward(model.call(ones(1, 3)).sum());
        optimizer.step();
        Assert.True(before.Equals(other.weight));
    }

    [Fact]
    public void Scheduler_MadeOfTheWrapper_ChangesTheRateOfTheOriginal()
    {
        var original = optim.SGD(_model.parameters(), 1.0);
        var (model, optimizer) = _fabric.Setup(_model, original);
        var scheduler = optim.lr_scheduler.StepLR(optimizer, 1, 0.5);
        for (var i = 0; i < 3; i++)
        {
            optimizer.zero_grad();
            _fabric.Backward(model.call(ones(1, 3)).sum());
            optimizer.step();
            scheduler.step();
        }

        Assert.Equal(0.125, original.ParamGroups.Single().LearningRate, 12);
        Assert.Equal(0.125, optimizer.ParamGroups.Single().LearningRate, 12);
    }

    /// <summary>Schedulers that cycle the momentum ask the optimizer for it; the numbers are in the groups.</summary>
    [Theory]
    [InlineData("SGD", true)]
    [InlineData("SGD", false)]
    [InlineData("RMSProp", true)]
    [InlineData("Adam", false)]
    [InlineData("AdamW", false)]
    public void Scheduler_ThatCyclesTheMomentum_DoesToTheOriginalWhatItDoesWithoutFabric(string name, bool cyclic)
    {
        static List<(double, double)> Course(optim.Optimizer optimizer, bool cyclic)
        {
            var scheduler = cyclic ? optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up: 3) : optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps: 8);
            var course = new List<(double, double)>();
            for (var step = 0; step < 6; step++)
            {
                var group = optimizer.ParamGroups.Single();
                course.Add((group.LearningRate, group is optim.IMomentum momentum ? momentum.Momentum : ((optim.IBetas)group).Betas.Item1));
                scheduler.step();
            }

            return course;
        }

        optim.Optimizer Make() => name switch
        {
            "SGD" => optim.SGD(_model.parameters(), 0.1, momentum: 0.9),
            "RMSProp" => optim.RMSProp(_model.parameters(), 0.1, momentum: 0.9),
            "Adam" => optim.Adam(_model.parameters(), 0.1),
            _ => optim.AdamW(_model.parameters(), 0.1),
        };
        var plain = Course(Make(), cyclic);
        var original = Make();
        var (_, optimizer) = _fabric.Setup(_model, original);
        Assert.Equal(plain, Course(optimizer, cyclic));
        Assert.Equal(6, plain.Distinct().Count());
        Assert.Equal(original is optim.IMomentum, optimizer is optim.IMomentum);
        Assert.Equal(original is optim.IBetas, optimizer is optim.IBetas);
    }

    [Fact]
    public void Momentum_OfTheWrapper_IsTheOriginals()
    {
        var original = optim.SGD(_model.parameters(), 0.1, momentum: 0.9);
        var wrapped = Assert.IsAssignableFrom<optim.IMomentum>(_fabric.SetupOptimizers(original)[0]);
        wrapped.Momentum = 0.5;
        Assert.Equal(0.5, ((optim.IMomentum)original).Momentum);
        var adam = optim.Adam(_model.parameters(), 0.1);
        var betas = Assert.IsAssignableFrom<optim.IBetas>(_fabric.SetupOptimizers(adam)[0]);
        betas.Betas = (0.5, 0.6);
        Assert.Equal((0.5, 0.6), ((optim.IBetas)adam).Betas);
        var none = _fabric.SetupOptimizers(optim.Adagrad(_model.parameters()))[0];
        Assert.False(none is optim.IMomentum or optim.IBetas);
        Assert.Throws<ArgumentException>(() => optim.lr_scheduler.OneCycleLR(none, 0.1, total_steps: 5));
    }

    [Fact]
    public void Scheduler_ThatCyclesTheMomentumOfAShardedOptimizer_ReachesTheInnerOne()
    {
        var sharded = _fabric.ShardOptimizer(_model.parameters(), share => optim.SGD(share, 0.1, momentum: 0.9));
        var (_, optimizer) = _fabric.Setup(_model, sharded);
        var scheduler = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps: 5);
        scheduler.step();
        Assert.NotEqual(0.9, ((SGD.ParamGroup)sharded.Optimizer.ParamGroups.Single()).Momentum);
        Assert.NotEqual(0.1, sharded.Optimizer.ParamGroups.Single().LearningRate);
    }

    [Fact]
    public void Step_Closure_IsRunAndItsValueReturned()
    {
        var (model, optimizer) = _fabric.Setup(_model, optim.SGD(_model.parameters(), 0.1));
        var weight = _model.weight.clone();
        var loss = optimizer.step(() =>
        {
            optimizer.zero_grad();
            var value = model.call(ones(1, 3)).sum();
            _fabric.Backward(value);
            return value;
        });
        Assert.True(weight.sub(0.1).allclose(_model.weight));
        Assert.Equal((weight.sum() + _model.bias!.add(0.1).sum()).item<float>(), loss.item<float>(), 1e-4);
    }

    [Fact]
    public void Step_LBFGS_RunsItsClosureSeveralTimes()
    {
        var (model, optimizer) = _fabric.Setup(_model, optim.LBFGS(_model.parameters(), 0.5, max_iter: 5));
        var runs = 0;
        optimizer.step(() =>
        {
            runs++;
            optimizer.zero_grad();
            var value = model.call(ones(1, 3)).pow(2).sum();
            _fabric.Backward(value);
            return value;
        });
        Assert.InRange(runs, 2, 10);
    }

    [Fact]
    public void Groups_Always_AreTheOriginals()
    {
        var original = optim.SGD(_model.parameters(), 0.1);
        var optimizer = _fabric.SetupOptimizers(original).Single();
        Assert.Same(original, optimizer.Optimizer);
        Assert.Equal(original.ParamGroups, optimizer.ParamGroups);
        Assert.Equal(original.parameters().Select(p => p.Handle), optimizer.parameters().Select(p => p.Handle));
    }

    [Fact]
    public void ZeroGrad_GroupAddedLater_TakesItsGradientsAwayToo()
    {
        var optimizer = _fabric.SetupOptimizers(optim.SGD(_model.parameters(), 0.1)).Single();
        optimizer.zero_grad();
        var extra = new Parameter(ones(2), requires_grad: true);
        optimizer.add_param_group(new SGD.ParamGroup([extra]));
        extra.sum().backward();
        optimizer.step();
        Assert.InRange(extra.sum().item<float>(), 0, 1.999);
        optimizer.zero_grad();
        Assert.Null(extra.grad);
    }

    [Fact]
    public void SetupOptimizers_WrongUse_IsRefused()
    {
        var original = optim.SGD(_model.parameters(), 0.1);
        var wrapped = _fabric.SetupOptimizers(original).Single();
        Assert.Contains("at least one optimizer", Assert.Throws<ArgumentException>(() => _fabric.SetupOptimizers()).Message);
        foreach (var again in new optim.Optimizer[] { original, wrapped })
            Assert.Contains("only once", Assert.Throws<ArgumentException>(() => _fabric.SetupOptimizers(again)).Message);
        Assert.Throws<ArgumentNullException>(() => _fabric.SetupOptimizers(null!));
    }

    [Fact]
    public void Dispose_Twice_IsHarmless()
    {
        var optimizer = _fabric.SetupOptimizers(optim.SGD(_model.parameters(), 0.1)).Single();
        optimizer.Dispose();
        optimizer.Dispose();
        Assert.False(_model.weight!.IsInvalid);
    }
}
