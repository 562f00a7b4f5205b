using FabricSharp.Collectives;
using FabricSharp.Strategies;
using FabricSharp.Testing;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Testing;

/// <summary>The programs of docs/guides/testing.md.</summary>
public class DocumentedExamples
{
    [Fact]
    public void Train_TwoRanks_EndWithEqualModels()
    {
        var sums = RankThreads.Run(2, fabric =>
        {
            var net = nn.Linear(4, 1);
            var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.1));
            var data = full([8, 4], fabric.GlobalRank + 1.0);
            for (var step = 0; step < 5; step++)
            {
                optimizer.zero_grad();
                fabric.Backward(model.call(data).square().mean());
                optimizer.step();
            }

            return net.weight.sum().item<float>();
        });
        Assert.Equal(sums[0], sums[1]);
    }

    [Fact]
    public void Metric_ThreeRanks_SendsOneSmallTensor() => RankThreads.RunGroup(3, group =>
    {
        var recording = new GroupRecording();
        var recorded = recording.Over(group);
        recorded.AllReduce(tensor(group.Rank), ReduceOp.Max).Wait();
        Assert.Equal(GroupOperation.AllReduce, recording.Calls.Single().Operation);
        Assert.Equal(1, recording.Calls.Single().Elements);
    });

    [Fact]
    public void Train_RankOneFails_TheOthersSayWho()
    {
        var strategy = new DDPStrategy().WithGroup(group =>
            group.Rank == 1 ? Fault.Over(group, Fault.Fail(at: 2, GroupOperation.GradientReduce)) : group);
        var failure = Assert.Throws<RankFailedException>(() => RankThreads.Run(2, Train, strategy));
        Assert.Equal(1, failure.Rank);
    }

    private static void Train(Fabric fabric)
    {
        var net = nn.Linear(4, 1);
        using var model = fabric.Setup(net);
        for (var step = 0; step < 5; step++)
            fabric.Backward(model.call(ones(8, 4)).square().mean());
    }
}
