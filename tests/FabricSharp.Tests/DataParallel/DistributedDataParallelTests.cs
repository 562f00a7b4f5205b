using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Tests.Collectives;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Data-parallel training without the façade.</summary>
public class DistributedDataParallelTests
{
    [Fact]
    public void Train_WithAPlainOptimizer_KeepsReplicasEqual() => GroupOfThreads.Run("shm", 3, group =>
    {
        var net = new Branchy();
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { FindUnusedParameters = true });
        var optimizer = optim.SGD(net.parameters(), 0.1, momentum: 0.9);
        for (var step = 0; step < 5; step++)
        {
            net.zero_grad();
            net.Take = "abc"[(step + group.Rank) % 3].ToString();
            model.Backward(model.call(full([2, 4], group.Rank + 1.0)).square().mean());
            model.EnsureReduced();
            optimizer.step();
        }

        Replicas.RequireEqual(net, group);
        Assert.Equal(5, model.UnusedParameters.Passes);
        Assert.NotEmpty(model.UnusedParameters.Parameters);
        group.Barrier().Wait();
    });

    [Fact]
    public void Backward_PlainCallOfTheLoss_AveragesToo()
    {
        Assert.SkipUnless(GradientHooks.IsSupported, "Without hooks Backward is needed.");
        Replicas.OfALinear(2, new DDPOptions(), (model, net, group) =>
        {
            model.call(full([1, 2], 2.0 + 2 * group.Rank)).sum().backward();
            Assert.True(net.weight!.grad!.eq(3).all().item<bool>());
        });
    }

    [Fact]
    public void EnsureReduced_WithoutHooksAndAfterAPlainCall_SaysWhatToCall()
    {
        Assert.SkipWhen(GradientHooks.IsSupported, "With hooks the plain call is seen.");
        Replicas.OfALinear(1, new DDPOptions(), (model, net, group) =>
        {
            model.call(ones(1, 2)).sum().backward();
            Assert.Contains("Call fabric.Backward(loss)", Assert.Throws<InvalidOperationException>(model.EnsureReduced).Message);
        });
    }

    [Fact]
    public void EnsureReduced_ParameterUnused_ThrowsWithNames()
    {
        var failures = GroupOfThreads.RunEach("shm", 2, group =>
        {
            var net = new Branchy { Take = "ab" };
            using var model = new DistributedDataParallel<Tensor, Tensor>(net, group);
            model.Backward(model.call(ones(1, 4)).sum());
            try
            {
                model.EnsureReduced();
            }
            finally
            {
                group.Barrier().Wait();
            }
        });
        Assert.All(failures, failure => Assert.Equal(["c.bias", "c.weight"], Assert.IsType<UnfinishedReductionException>(failure).ParameterNames.Order()));
    }

    [Fact]
    public void NoSync_Passes_AreAveragedByTheNextOutside() => Replicas.OfALinear(2, new DDPOptions(), (model, net, group) =>
    {
        void Pass() => model.Backward(model.call(full([1, 2], 2.0 + 2 * group.Rank)).sum());
        using (model.NoSync())
        {
            Pass();
            Assert.True(net.weight!.grad!.eq(2 + 2 * group.Rank).all().item<bool>());
            Pass();
        }

        Pass();
        Assert.True(net.weight!.grad!.eq(9).all().item<bool>());
    });

    [Fact]
    public void Names_Always_AreTheOriginals() => Replicas.OfALinear(1, new DDPOptions(), (model, net, _) =>
    {
        Assert.Equal(net.state_dict().Keys, model.state_dict().Keys);
        Assert.Same(net, model.Module);
        Assert.Same(net, model.Unwrap<Linear>());
        Assert.Throws<InvalidCastException>(model.Unwrap<Conv2d>);
        Assert.Equal(net.GetName(), model.GetName());
        model.eval();
        Assert.False(net.training);
    });

    [Fact]
    public void Dispose_Model_LeavesModuleAndGroupAlive() => GroupOfThreads.Run("shm", 2, group =>
    {
        var net = nn.Linear(2, 1, hasBias: false);
        var model = new DistributedDataParallel<Tensor, Tensor>(net, group);
        group.Barrier().Wait();
        model.Dispose();
        net.call(full([1, 2], group.Rank + 1.0)).sum().backward();
        Assert.True(net.weight!.grad!.eq(group.Rank + 1).all().item<bool>());
        group.Barrier().Wait();
    });

    [Fact]
    public void Construct_SixInputs_TrainsAsWithOne() => GroupOfThreads.Run("shm", 2, group =>
    {
        var net = new Summands();
        using var model = new DistributedDataParallel<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(net, group);
        Tensor X(int i) => full([1, 2], (group.Rank + 1.0) * i);
        model.Backward(model.call(X(1), X(2), X(3), X(4), X(5), X(6)).sum());
        Assert.True(net.Weight.grad!.eq(1.5 * 21).all().item<bool>());
        group.Barrier().Wait();
    });

    [Fact]
    public void Construct_IgnoredParameter_StaysThisRanks() => GroupOfThreads.Run("shm", 2, group =>
    {
        var net = new Branchy();
        using (no_grad())
            foreach (var parameter in net.parameters())
                parameter.fill_(group.Rank + 1);
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { ParametersToIgnore = ["a.weight"] });
        Assert.True(net.BranchA.weight!.eq(group.Rank + 1).all().item<bool>());
        Assert.True(net.BranchA.bias!.eq(1).all().item<bool>());
        model.Backward(net.BranchA.weight.sum() * (group.Rank + 1) + model.call(ones(1, 4)).sum());
        var all = zeros(2);
        group.AllGather(all, net.BranchA.weight.grad!.sum()).Wait();
        Assert.NotEqual(all[0].item<float>(), all[1].item<float>());
        model.EnsureReduced();
        group.Barrier().Wait();
    });

    [Fact]
    public void Construct_IgnoredBuffer_StaysThisRanks() => GroupOfThreads.Run("shm", 2, group =>
    {
        var net = nn.BatchNorm1d(2);
        net.running_mean!.fill_(group.Rank + 1);
        net.running_var!.fill_(group.Rank + 1);
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { ParametersToIgnore = ["running_mean"] });
        Assert.True(net.running_mean!.eq(group.Rank + 1).all().item<bool>());
        Assert.True(net.running_var!.eq(1).all().item<bool>());
        model.Backward(model.call(zeros(4, 2)).sum());
        Assert.True(net.running_mean!.allclose(full([2], 0.9f * (group.Rank + 1))));
        group.Barrier().Wait();
    });

    [Fact]
    public void Construct_UnknownIgnoredName_ListsTheKnownOnes() => GroupOfThreads.Run("shm", 1, group =>
    {
        var e = Assert.Throws<ArgumentException>(() => new DistributedDataParallel<Tensor, Tensor>(nn.Linear(2, 2), group, new DDPOptions { ParametersToIgnore = ["wait"] }));
        Assert.Contains("'wait'", e.Message);
        Assert.Contains("bias, weight", e.Message);
    });

    [Fact]
    public void Forward_AfterConversionOfTheModule_SaysSo() => GroupOfThreads.Run("shm", 2, group =>
    {
        var net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2));
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group);
        model.Backward(model.call(ones(1, 2)).sum());
        group.Barrier().Wait();
        net.to(ScalarType.Float64);
        var e = Assert.Throws<InvalidOperationException>(() =>
        {
            for (var step = 0; step < 2; step++)
                model.Backward(model.call(ones([1, 2], ScalarType.Float64)).sum());
        });
        Assert.Contains("was replaced or disposed after the model was set up", e.Message);
    });

    [Fact]
    public void EnsureReduced_ParameterFrozenLater_SaysSo() => Replicas.OfALinear(1, new DDPOptions(), (model, net, _) =>
    {
        model.Backward(model.call(ones(1, 2)).sum());
        net.weight!.requires_grad = false;
        model.Backward(model.call(ones([1, 2], requires_grad: true)).sum());
        Assert.Contains("frozen after set-up", Assert.Throws<UnfinishedReductionException>(model.EnsureReduced).Message);
    });

    [Fact]
    public void Timeout_RankThatDoesNotCome_EndsTheWait() => GroupOfThreads.Run("shm", 2, group =>
    {
        using var model = new DistributedDataParallel<Tensor, Tensor>(nn.Linear(2, 1), group, new DDPOptions { Timeout = TimeSpan.FromMilliseconds(200) });
        group.Barrier().Wait();
        if (group.Rank == 0)
            Assert.Throws<DistributedTimeoutException>(() => model.Backward(model.call(ones(1, 2)).sum()));
        else
            Assert.ThrowsAny<DistributedException>(() => group.Barrier().Wait()); // ends when rank 0 has given up
    });

    [Fact]
    public void LoggingData_AfterSteps_SaysWhatRan() => GroupOfThreads.Run("shm", 2, group =>
    {
        var net = new Branchy();
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { FindUnusedParameters = true });
        for (var step = 0; step < 3; step++)
        {
            net.Take = "a";
            model.Backward(model.call(ones(1, 4)).sum());
        }

        var data = model.GetLoggingData();
        var perPass = 4L * (4 * 4 + 4 + 4 * 3 + 3);
        Assert.Equal((3L, 2, group.Rank, "shm", true), (data.Iterations, data.WorldSize, data.Rank, data.BackendName, data.CanSetStaticGraph));
        Assert.InRange(data.BytesSent, 3 * perPass, 3 * perPass + 3 * 4 * 64); // gaps of cache lines between neighbours travel, too
        Assert.InRange(data.BytesSaved, 1, 3 * 2 * 60);
        Assert.True(data.HasRebuiltBuckets);
        Assert.Equal(8, data.BucketParameters.Sum(bucket => bucket.Count));
        Assert.True(data.AverageStep.Backward > TimeSpan.Zero && data.LastStep.Communication >= data.LastStep.Overlap);
        Assert.Contains("\"has_rebuilt_buckets\":true", data.ToJson());
        net.Take = "b";
        model.Backward(model.call(ones(1, 4)).sum());
        Assert.False(model.GetLoggingData().CanSetStaticGraph);
        group.Barrier().Wait();
    });

    private sealed class Summands : nn.Module<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>
    {
        private readonly Linear linear = nn.Linear(2, 1, hasBias: false);

        public Summands()
            : base(nameof(Summands)) => RegisterComponents();

        public Parameter Weight => linear.weight!;

        public override Tensor forward(Tensor a, Tensor b, Tensor c, Tensor d, Tensor e, Tensor f) => linear.call(a + b + c + d + e + f);
    }
}
