using FabricSharp.Checkpointing;
using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Tests.Checkpointing;
using FabricSharp.Tests.Collectives;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using OptimizerState = FabricSharp.Checkpointing.OptimizerState;

namespace FabricSharp.Tests.DataParallel;

/// <summary>The reference is the inner optimizer over all parameters, with the same gradients.</summary>
public class ZeroRedundancyOptimizerTests
{
    private static readonly Dictionary<string, Func<IEnumerable<Parameter>, OptimizerHelper>> Makers = new()
    {
        ["SGD"] = p => optim.SGD(p, 0.05, momentum: 0.9, weight_decay: 0.01, nesterov: true),
        ["Adam"] = p => optim.Adam(p, 0.01, amsgrad: true),
        ["AdamW"] = p => optim.AdamW(p, 0.01, weight_decay: 0.1),
        ["Adagrad"] = p => optim.Adagrad(p, 0.05),
        ["RMSprop"] = p => optim.RMSProp(p, 0.01, momentum: 0.9, centered: true),
        ["Adadelta"] = p => optim.Adadelta(p, 0.5),
        ["Adamax"] = p => optim.Adamax(p, 0.01),
        ["ASGD"] = p => optim.ASGD(p, 0.05, t0: 3),
        ["NAdam"] = p => optim.NAdam(p, 0.01),
        ["RAdam"] = p => optim.RAdam(p, 0.01),
        ["Rprop"] = p => optim.Rprop(p, 0.01),
    };

    public static TheoryData<string, int> NamesAndRanks
    {
        get
        {
            var data = new TheoryData<string, int>();
            foreach (var name in Makers.Keys)
                data.Add(name, 3);
            data.Add("SGD", 2);
            data.Add("AdamW", 2);
            data.Add("AdamW", 4);
            data.Add("SGD", 7); // more ranks than parameters
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(NamesAndRanks))]
    public void Step_EachOptimizer_GivesTheBitsOfThePlainOne(string name, int ranks)
    {
        var expected = Plain(Makers[name], 5);
        Run(ranks, group =>
        {
            using var net = Net();
            using var zero = new ZeroRedundancyOptimizer(net.parameters(), Makers[name], group);
            Train(net, zero, 0, 5);
            Assert.Equal(expected, Checkpoints.Fingerprint(net));
        });
    }

    [Theory]
    [MemberData(nameof(NamesAndRanks))]
    public void Load_SavedByAnyNumberOfRanks_GoesOnAsThePlainOne(string name, int ranks)
    {
        using var folder = new TemporaryFolder();
        var expected = Plain(Makers[name], 6);
        byte[] plainFile;
        using (var one = Checkpoints.OneRank())
        {
            using var net = Net();
            using var plain = Makers[name](net.parameters());
            Train(net, plain, 0, 3);
            one.Save(folder["plain"], new() { ["net"] = net, ["optimizer"] = plain });
            plainFile = File.ReadAllBytes(folder["plain/optimizer.safetensors"]);
        }

        OnRanks(ranks, fabric =>
        {
            var net = Net();
            using var zero = fabric.ShardOptimizer(net.parameters(), Makers[name]);
            fabric.Load(folder["plain"], new() { ["net"] = net, ["optimizer"] = zero }); // plain → ZeRO
            fabric.Save(folder["same"], new() { ["net"] = net, ["optimizer"] = zero });
            Train(net, zero, 3, 2);
            fabric.Save(folder["zero"], new() { ["net"] = net, ["optimizer"] = zero });
            return 0;
        });
        Assert.Equal(Header(plainFile), Header(File.ReadAllBytes(folder["same/optimizer.safetensors"])));

        OnRanks(2, fabric => // ZeRO → ZeRO of another size
        {
            var net = Net();
            using var zero = fabric.ShardOptimizer(net.parameters(), Makers[name]);
            fabric.Load(folder["zero"], new() { ["net"] = net, ["optimizer"] = zero });
            Train(net, zero, 5, 1);
            Assert.Equal(expected, Checkpoints.Fingerprint(net));
            return 0;
        });
        using (var one = Checkpoints.OneRank()) // ZeRO → plain
        {
            using var net = Net();
            using var plain = Makers[name](net.parameters());
            one.Load(folder["zero"], new() { ["net"] = net, ["optimizer"] = plain });
            Train(net, plain, 5, 1);
            Assert.Equal(expected, Checkpoints.Fingerprint(net));
        }
    }

    [Fact]
    public void State_OverFourRanks_IsSharedOutEvenly()
    {
        var bytes = new long[4];
        var whole = 0L;
        Run(4, group =>
        {
            using var net = Net();
            using var zero = new ZeroRedundancyOptimizer(net.parameters(), Makers["Adam"], group);
            bytes[group.Rank] = BytesOf(((IShardedOptimizer)zero).OwnStates);
            using var plain = Makers["Adam"](net.parameters());
            whole = BytesOf([.. plain.state_dict().State]);
            Assert.All(net.parameters(), parameter => Assert.InRange(zero.OwnerOf(parameter), 0, 3));
        });
        Assert.Equal(whole, bytes.Sum());
        Assert.True(bytes.Max() < whole * 0.4, string.Join(' ', bytes)); // the largest parameter alone is 36 %
    }

    [Fact]
    public void ParamGroups_WithSchedulersAndAddedGroups_ReachTheInnerOptimizer()
    {
        static OptimizerHelper Grouped(IReadOnlyList<IReadOnlyList<Parameter>> shares) =>
            optim.SGD([new SGD.ParamGroup(shares[0], lr: 0.1, momentum: 0.9), new SGD.ParamGroup(shares[1], lr: 0.01)], 0.5);
        static void Steps(Sequential net, optim.Optimizer optimizer)
        {
            var parameters = net.parameters().ToList();
            optimizer.add_param_group(new SGD.ParamGroup(parameters[4..], lr: 0.2));
            var scheduler = optim.lr_scheduler.StepLR(optimizer, 2, 0.5);
            for (var step = 0; step < 5; step++)
            {
                Train(net, optimizer, step, 1);
                scheduler.step();
            }

            Assert.Equal([0.1 / 4, 0.01 / 4, 0.2 / 4], optimizer.ParamGroups.Select(group => group.LearningRate));
        }

        using var reference = Net();
        var all = reference.parameters().ToList();
        using var plain = Grouped([all[..2], all[2..4]]);
        Steps(reference, plain);
        var expected = Checkpoints.Fingerprint(reference);
        Run(3, group =>
        {
            using var net = Net();
            var parameters = net.parameters().ToList();
            using var zero = new ZeroRedundancyOptimizer([parameters[..2], parameters[2..4]], Grouped, group);
            Steps(net, zero);
            Assert.Equal(expected, Checkpoints.Fingerprint(net));
            Assert.Equal(parameters.Count, zero.parameters().Count());
            Assert.Equal([2, 2, parameters.Count - 4], zero.ParamGroups.Cast<ParamGroup>().Select(one => one.Parameters.Count()));
            Assert.All(zero.ParamGroups, one => Assert.IsType<SGD.ParamGroup>(one));
        });
    }

    [Fact]
    public void Step_WithAClosure_CallsItOnceOnEveryRankAndReturnsItsLoss() => Run(7, group =>
    {
        using var net = Net();
        using var zero = new ZeroRedundancyOptimizer(net.parameters(), Makers["SGD"], group);
        var calls = 0;
        var loss = zero.step(() =>
        {
            calls++;
            zero.zero_grad();
            var value = Loss(net, 0);
            value.backward();
            return value;
        });
        Assert.Equal(1, calls);
        Assert.True(loss.requires_grad); // the closure ran with gradients on
        Assert.Equal(Plain(Makers["SGD"], 1), Checkpoints.Fingerprint(net));
    });

    [Fact]
    public void ZeroGrad_OfEveryParameter_WritesZerosOrTakesThemAway() => Run(2, group =>
    {
        using var net = Net();
        using var zero = new ZeroRedundancyOptimizer(net.parameters(), Makers["SGD"], group);
        Loss(net, 2).backward();
        zero.zero_grad();
        Assert.All(net.parameters(), parameter => Assert.True(parameter.grad!.eq(0).all().item<bool>()));
        zero.zero_grad(set_to_none: true);
        Assert.All(net.parameters(), parameter => Assert.Null(parameter.grad));
    });

    [Fact]
    public void Constructor_RanksHaveOtherParameters_NamesTheDifferenceOnEveryRank()
    {
        var failures = GroupOfThreads.RunEach("shm", 3, group =>
        {
            using var net = group.Rank == 2 ? nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)) : nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2));
            using var zero = new ZeroRedundancyOptimizer(net.parameters(), Makers["SGD"], group);
        });
        Assert.All(failures, failure => Assert.Contains(
            "rank 0 has group 0, parameter 0: shape [5, 4], Float32; rank 2 has group 0, parameter 0: shape [6, 4], Float32.", Assert.IsType<ArgumentException>(failure).Message));

        failures = GroupOfThreads.RunEach("shm", 2, group =>
        {
            using var net = nn.Sequential(nn.Linear(4, 5, hasBias: group.Rank == 0));
            using var zero = new ZeroRedundancyOptimizer(net.parameters(), Makers["SGD"], group);
        });
        Assert.All(failures, failure => Assert.Contains("rank 0 has group 0, parameter 1: shape [5], Float32; rank 1 has group 0: 1 parameters.", Assert.IsType<ArgumentException>(failure).Message));
    }

    [Fact]
    public void Constructor_WhatCannotBeSharedOut_IsRefusedWithTheReason()
    {
        using var net = Net();
        string Refused(Func<IEnumerable<Parameter>, optim.Optimizer> factory) =>
            Assert.Throws<ArgumentException>(() => new ZeroRedundancyOptimizer(net.parameters(), factory)).Message;
        Assert.Contains("depends on the gradients of all parameters at once", Refused(p => optim.LBFGS(p)));
        Assert.Contains("must use the parameters that it is given", Refused(_ => optim.SGD(net.parameters().Take(1), 0.1)));
        var twice = net.parameters().Concat(net.parameters().Take(1));
        Assert.Contains("more than once", Assert.Throws<ArgumentException>(() => new ZeroRedundancyOptimizer(twice, Makers["SGD"])).Message);
    }

    [Fact]
    public void Save_NotConsolidatedOrSteppedSince_SaysWhatToCall() => Run(2, group =>
    {
        using var net = Net();
        using var zero = new ZeroRedundancyOptimizer(net.parameters(), Makers["Adam"], group);
        void RequireRefused(int rank)
        {
            if (group.Rank == rank)
                Assert.Contains(
                    $"Optimizer state has not been consolidated on this rank. Please call `ConsolidateState(to: {rank})` on all ranks",
                    Assert.Throws<ArgumentException>(() => OptimizerState.Save("optimizer", zero)).Message);
        }

        RequireRefused(0);
        Assert.Throws<ArgumentOutOfRangeException>(() => zero.ConsolidateState(to: 2));
        zero.ConsolidateState(to: 1);
        Assert.Equal(1, zero.ConsolidatedRank);
        RequireRefused(0);
        if (group.Rank == 1)
            Assert.Equal(18, OptimizerState.Save("optimizer", zero).Tensors.Count); // three of each parameter
        Train(net, zero, 0, 1);
        Assert.Null(zero.ConsolidatedRank);
        RequireRefused(1);
    });

    [Fact]
    public void Load_ThatDoesNotFit_FailsOnEveryRank()
    {
        using var folder = new TemporaryFolder();
        using (var one = Checkpoints.OneRank())
        {
            using var net = Net();
            one.Save(folder["c"], new() { ["optimizer"] = Makers["Adam"](net.parameters()) });
        }

        OnRanks(2, fabric =>
        {
            using var net = Net();
            using var zero = fabric.ShardOptimizer(net.parameters(), Makers["AdamW"]);
            Assert.Contains("optimizer Adam, which cannot be loaded into an AdamW", Checkpoints.Fails(() => fabric.Load(folder["c"], new() { ["optimizer"] = zero })).Message);
            return 0;
        });
    }

    [Theory]
    [InlineData("32-true")]
    [InlineData("64-true")]
    public void Setup_WithFabric_TrainsAsThePlainOptimizerDoes(string precision)
    {
        string Train(bool sharded)
        {
            using var fabric = new Fabric("cpu", "ddp_notebook", 3, precision: precision);
            return fabric.Launch(rank =>
            {
                using var scope = NewDisposeScope();
                var net = Net();
                optim.Optimizer made = sharded ? rank.ShardOptimizer(net.parameters(), Makers["AdamW"]) : Makers["AdamW"](net.parameters());
                var (model, optimizer) = rank.Setup(net, made);
                for (var step = 0; step < 4; step++)
                {
                    optimizer.zero_grad();
                    rank.Backward((model.call(Input(step + rank.GlobalRank)) - 1).pow(2).mean());
                    optimizer.step();
                }

                var bits = Checkpoints.Fingerprint(net);
                Assert.All(Enumerable.Range(0, 3).Select(source => rank.Broadcast(bits, source)).ToList(), other => Assert.Equal(bits, other));
                return bits;
            });
        }

        Assert.Equal(Train(sharded: false), Train(sharded: true));
    }

    [Fact]
    public void Step_ManyTimes_LeavesNoTensors() => Run(2, group =>
    {
        using var net = Net();
        using var zero = new ZeroRedundancyOptimizer(net.parameters(), Makers["Adam"], group);
        Train(net, zero, 0, 4);
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (var i = 0; i < 20; i++)
        {
            zero.ConsolidateState(); // forgotten at the step
            Train(net, zero, 4, 1);
        }

        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    });

    private static string Plain(Func<IEnumerable<Parameter>, OptimizerHelper> make, int steps)
    {
        using var net = Net();
        using var optimizer = make(net.parameters());
        Train(net, optimizer, 0, steps);
        return Checkpoints.Fingerprint(net);
    }

    /// <summary>Six parameters, with the same values each time; the last layer is used from the third step on.</summary>
    private static Sequential Net()
    {
        var net = nn.Sequential(("a", nn.Linear(4, 10)), ("b", nn.Linear(10, 6)), ("c", nn.Linear(6, 6)));
        using var gradientsOff = no_grad();
        foreach (var (index, parameter) in net.parameters().Index())
            parameter.copy_(((arange(parameter.numel(), ScalarType.Float32) + index) * 1.1).sin().reshape(parameter.shape));
        return net;
    }

    private static Tensor Input(int step) => ((arange(12, ScalarType.Float32) + step) * 0.7).cos().reshape(3, 4);

    private static Tensor Loss(Sequential net, int step)
    {
        var hidden = net[1].call(net[0].call(Input(step)).tanh());
        return ((step < 2 ? hidden : net[2].call(hidden)) - 1).pow(2).mean();
    }

    private static void Train(Sequential net, optim.Optimizer optimizer, int first, int steps)
    {
        for (var step = first; step < first + steps; step++)
        {
            using var scope = NewDisposeScope();
            net.zero_grad();
            Loss(net, step).backward();
            optimizer.step();
        }
    }

    private static long BytesOf(IEnumerable<TorchSharp.Modules.OptimizerState?> states) =>
        OptimizerState.SaveStates([.. states]).Tensors.Sum(one => one.Tensor.numel() * one.Tensor.ElementSize);

    /// <summary>The names, types, shapes and the description of a safetensors file. (The tensors of the owners come first.)</summary>
    private static List<string> Header(byte[] file)
    {
        var header = System.Text.Json.JsonDocument.Parse(file.AsMemory(8, (int)BitConverter.ToInt64(file))).RootElement;
        return [.. header.EnumerateObject().Select(entry => entry.Name == "__metadata__" ? entry.Value.GetRawText() : $"{entry.Name} {entry.Value.GetProperty("dtype")} {entry.Value.GetProperty("shape")}").Order(StringComparer.Ordinal)];
    }

    private static void Run(int ranks, Action<ProcessGroup> body) => GroupOfThreads.Run("shm", ranks, group =>
    {
        using var scope = NewDisposeScope();
        body(group);
        group.Barrier().Wait();
    });

    private static void OnRanks(int ranks, Func<Fabric, int> body)
    {
        using var fabric = new Fabric("cpu", "ddp_notebook", ranks);
        fabric.Launch(body);
    }
}
