using static TorchSharp.torch;
using static TorchSharp.torch.optim;
using static TorchSharp.torch.optim.lr_scheduler;

namespace FabricSharp.Tests.Checkpointing;

public class SchedulerCheckpointTests
{
    private static readonly Dictionary<string, Func<Optimizer, LRScheduler>> Makers = new()
    {
        ["Lambda"] = o => LambdaLR(o, epoch => 1.0 / (1 + epoch)),
        ["Multiplicative"] = o => MultiplicativeLR(o, epoch => 0.9),
        ["Step"] = o => StepLR(o, 3, 0.5),
        ["MultiStep"] = o => MultiStepLR(o, [2, 5, 7], 0.5),
        ["Polynomial"] = o => PolynomialLR(o, 10, 2),
        ["Exponential"] = o => ExponentialLR(o, 0.8),
        ["Constant"] = o => ConstantLR(o, 0.5, 6),
        ["Linear"] = o => LinearLR(o, 0.3, 1, 8),
        ["CosineAnnealing"] = o => CosineAnnealingLR(o, 7, 0.001),
        ["Plateau"] = o => ReduceLROnPlateau(o, patience: 1, cooldown: 1, factor: 0.5),
        ["Cyclic"] = o => CyclicLR(o, 0.01, 0.2, step_size_up: 3, cycle_momentum: false),
        ["OneCycle"] = o => OneCycleLR(o, 0.3, total_steps: 20),
        ["Sequential"] = o => SequentialLR(o, [ConstantLR(o, 0.1, 3), ExponentialLR(o, 0.9)], [4]),
        ["Chained"] = o => ChainedLR([ExponentialLR(o, 0.9), StepLR(o, 2, 0.5)]),
    };

    public static TheoryData<string> Names => [.. Makers.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void Load_EachScheduler_TheRatesThatFollowAreThoseOfTheUninterruptedRun(string name)
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        var (optimizer, scheduler) = Make(name, net);
        Rates(optimizer, scheduler, 0, 5);
        fabric.Save(folder["c"], new() { ["optimizer"] = optimizer, ["scheduler"] = scheduler });
        var expected = Rates(optimizer, scheduler, 5, 8);

        var (other, resumed) = Make(name, net);
        var state = new Dictionary<string, object?> { ["scheduler"] = resumed, ["optimizer"] = other };
        Assert.Empty(fabric.Load(folder["c"], state));
        Assert.Same(resumed, state["scheduler"]);
        Assert.Equal(expected, Rates(other, resumed, 5, 8));
        if (name != "Lambda") // whose rates depend on the epoch alone, which the last line covers
            Assert.NotEqual(expected, FreshRates(name, net));
    }

    [Fact]
    public void Load_OfAnotherScheduler_NamesBothAndChangesNothing()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        var (optimizer, scheduler) = Make("Step", net);
        fabric.Save(folder["c"], new() { ["scheduler"] = scheduler, ["sequence"] = Makers["Sequential"](optimizer) });
        var (_, exponential) = Make("Exponential", net);
        var rates = exponential.get_last_lr().ToList();
        Assert.Contains("state of a StepLR, this is a ExponentialLR", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["scheduler"] = exponential })).Message);
        Assert.Equal(rates, exponential.get_last_lr());
        var longer = SequentialLR(optimizer, [ConstantLR(optimizer, 0.1, 3), ExponentialLR(optimizer, 0.9), ExponentialLR(optimizer, 0.9)], [4, 5]);
        Assert.Contains("made of 2 schedulers, this SequentialLR of 3", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["sequence"] = longer })).Message);
    }

    [Fact]
    public void Load_OfAnotherNumberOfGroups_SaysSo()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        fabric.Save(folder["c"], new() { ["scheduler"] = Make("Step", net).Scheduler });
        var grouped = Adam([new TorchSharp.Modules.Adam.ParamGroup(net.parameters().Take(2)), new TorchSharp.Modules.Adam.ParamGroup(net.parameters().Skip(2))]);
        Assert.Contains("of 1 parameter groups, the optimizer has 2", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["scheduler"] = StepLR(grouped, 3) })).Message);
    }

    [Fact]
    public void Save_SchedulerOfTheUser_IsRefusedWithItsType()
    {
        using var folder = new TemporaryFolder();
        using var fabric = Checkpoints.OneRank();
        using var net = Checkpoints.Net();
        var error = Assert.Throws<ArgumentException>(() => fabric.Save(folder["c"], new() { ["scheduler"] = new Own(SGD(net.parameters(), 0.1)) }));
        Assert.Contains(typeof(Own).ToString(), error.Message);
        Assert.Empty(folder.Names);
    }

    private static List<double> FreshRates(string name, nn.Module net)
    {
        var (optimizer, scheduler) = Make(name, net);
        return Rates(optimizer, scheduler, 5, 8);
    }

    private static (Optimizer Optimizer, LRScheduler Scheduler) Make(string name, nn.Module net)
    {
        var optimizer = Adam(net.parameters(), 0.1);
        return (optimizer, Makers[name](optimizer));
    }

    private static List<double> Rates(Optimizer optimizer, LRScheduler scheduler, int first, int count)
    {
        var rates = new List<double>();
        for (var epoch = first; epoch < first + count; epoch++)
        {
            if (scheduler is impl.ReduceLROnPlateau)
                scheduler.step(epoch < 2 ? 1.0 - epoch : 5.0);
            else
                scheduler.step();
            rates.Add(optimizer.ParamGroups.First().LearningRate);
        }

        return rates;
    }

    private sealed class Own(Optimizer optimizer) : LRScheduler(optimizer);
}
