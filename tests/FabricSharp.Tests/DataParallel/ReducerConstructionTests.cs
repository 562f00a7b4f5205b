using FabricSharp.DataParallel;
using FabricSharp.Tests.Collectives;
using FabricSharp.Modules;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

public class ReducerConstructionTests
{
    private static readonly Dictionary<string, (Func<int, nn.Module> Make, string Text)> Different = new()
    {
        ["number"] = (rank => nn.Sequential(("0", nn.Linear(2, 3)), ("1", rank == 1 ? nn.Linear(3, 3) : nn.Tanh())), "Rank 0 has 2 params, while rank 1 has inconsistent 4 params."),
        ["shape"] = (rank => nn.Sequential(("0", nn.Linear(2 + rank / 2, 3))), "rank 0 has parameter '0.weight' (shape [3, 2]"),
        ["name"] = (rank => nn.Sequential((rank == 1 ? "other" : "one", nn.Linear(2, 3))), "rank 1 has parameter 'other.weight'"),
        ["type"] = (rank => nn.Linear(2, 3, dtype: rank == 1 ? ScalarType.Float64 : ScalarType.Float32), "Float64"),
        ["buffer"] = (rank => rank == 1 ? WithBuffer(nn.Linear(2, 3)) : nn.Linear(2, 3), "buffer 'extra'"),
        ["frozen"] = (rank => Frozen(nn.Linear(2, 3), rank == 2), "frozen"),
    };

    public static TheoryData<string> Differences => [.. Different.Keys];

    [Theory]
    [MemberData(nameof(Differences))]
    public void Construct_ModelsDiffer_ThrowsOnEveryRankWithTheDifference(string what)
    {
        var (make, text) = Different[what];
        var failures = GroupOfThreads.RunEach("shm", 3, group => new Replica<nn.Module>(make(group.Rank), group));
        Assert.All(failures, failure =>
        {
            var e = Assert.IsType<InvalidOperationException>(failure);
            Assert.StartsWith("DDP expects same model across all ranks, but ", e.Message);
            Assert.Contains(text, e.Message);
        });
    }

    [Fact]
    public void Construct_OptionsDiffer_ThrowsOnEveryRankWithTheOption()
    {
        var failures = GroupOfThreads.RunEach("shm", 2, group =>
            new Replica<nn.Module>(nn.Linear(2, 2), group, new DDPOptions { FindUnusedParameters = group.Rank == 1 }));
        Assert.All(failures, failure => Assert.Contains("setting 'findUnusedParameters' (True)", Assert.IsType<InvalidOperationException>(failure).Message));
    }

    [Fact]
    public void Construct_NothingToTrain_IsRefused() => GroupOfThreads.Run("shm", 1, group =>
    {
        foreach (var module in new nn.Module[] { nn.ReLU(), Frozen(nn.Linear(2, 2), true) })
            Assert.Equal(
                "DistributedDataParallel is not needed when a module doesn't have any parameter that requires a gradient. Use the module as it is, without `Setup` (`fabric.ToDevice(module)` moves it), or set `requires_grad` of what is to be trained first.",
                Assert.Throws<InvalidOperationException>(() => new Replica<nn.Module>(module, group)).Message);
    });

    [Fact]
    public void Construct_ValuesDiffer_GivesAllRanksThoseOfRankZero()
    {
        nn.Module Make(int rank)
        {
            var module = new Wrappers.SummandParts();
            using (no_grad())
                foreach (var tensor in module.parameters().Concat(ModuleTensors.Buffers(module).Select(b => b.Buffer)))
                    tensor.fill_(rank + 5);
            return module;
        }

        GroupOfThreads.Run("shm", 3, group =>
        {
            using var replica = new Replica<nn.Module>(Make(group.Rank), group);
            foreach (var tensor in replica.Module.parameters().Concat(ModuleTensors.Buffers(replica.Module).Select(b => b.Buffer)))
                Assert.True(tensor.eq(5).all().item<bool>());
            group.Barrier().Wait();
        });
    }

    [Fact]
    public void Construct_InAScope_LeavesModelAndReducerAlive() => GroupOfThreads.Run("shm", 2, group =>
    {
        var model = new Branchy();
        Replica<Branchy> replica;
        using (NewDisposeScope())
            replica = new Replica<Branchy>(model, group);
        using (NewDisposeScope())
            replica.Pass(Branchy.Loss("abc", 0));
        replica.Pass(Branchy.Loss("abc", 0));
        Assert.NotNull(model.Trunk.weight!.grad);
        group.Barrier().Wait();
        replica.Dispose();
        Assert.False(model.Trunk.weight.IsInvalid);
    });

    private static Linear WithBuffer(Linear module)
    {
        module.register_buffer("extra", ones(1));
        return module;
    }

    private static Linear Frozen(Linear module, bool frozen)
    {
        foreach (var parameter in module.parameters())
            parameter.requires_grad = !frozen;
        return module;
    }
}
