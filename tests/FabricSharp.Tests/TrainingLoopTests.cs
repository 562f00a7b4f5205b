using FabricSharp.Tests.DataParallel;
using static TorchSharp.torch;

namespace FabricSharp.Tests;

/// <summary>Fabric's loop beside the loop without it.</summary>
public class TrainingLoopTests
{
    [Theory]
    [InlineData("auto")]
    [InlineData("ddp_notebook")]
    [InlineData("ddp_notebook_find_unused_parameters_true")]
    public void Train_OneRank_EqualsTheRawLoopBitForBit(string strategy)
    {
        var raw = Raw();
        var fabrics = Ranks.Run(
            1,
            fabric =>
            {
                var net = Net();
                var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), 0.01));
                for (var step = 0; step < 20; step++)
                {
                    optimizer.zero_grad();
                    fabric.Backward(model.call(Input(step)).pow(2).mean());
                    optimizer.step();
                }

                return Weights(net);
            },
            strategy);
        Assert.Equal(raw, fabrics[0]);
    }

    [Fact]
    public void Invoke_AnotherMethodUnderDdp_AveragesItsGradients() => Ranks.Run(2, fabric =>
    {
        var net = new Branchy { Take = "a" };
        var model = fabric.Setup(net);
        fabric.Backward(model.Invoke((Branchy branchy) => branchy.call(full([1, 4], 2.0 + 2 * fabric.GlobalRank)).sum()));
        var gradients = fabric.AllGather(cat([.. net.parameters().Where(p => p.grad is not null).Select(p => p.grad!.flatten())]));
        Assert.True(gradients[0].Equals(gradients[1]));
        Assert.True(gradients.abs().sum().item<float>() > 0);
    });

    [Fact]
    public void Fabrics_LaunchedAtTheSameTime_DoNotMix()
    {
        var sums = new double[3];
        var threads = Enumerable.Range(0, 3).Select(i => new Thread(() => sums[i] = Ranks.Run(2, fabric => fabric.AllReduce(10.0 * i + fabric.GlobalRank, "sum"))[0])).ToList();
        threads.ForEach(thread => thread.Start());
        Assert.All(threads, thread => Assert.True(thread.Join(TimeSpan.FromSeconds(30))));
        Assert.Equal([1, 21, 41], sums);
    }

    [Fact]
    public void Ranks_BeforeAndAfterLaunch_AreNumberedFromZero()
    {
        using var before = new Fabric("cpu", strategy: "ddp_notebook", devices: 3);
        Assert.Equal((0, 0, 0, 3, true), (before.GlobalRank, before.LocalRank, before.NodeRank, before.WorldSize, before.IsGlobalZero));
        var ranks = Ranks.Run(3, fabric => (fabric.GlobalRank, fabric.LocalRank, fabric.NodeRank, fabric.WorldSize, fabric.IsGlobalZero), "ddp_notebook");
        Assert.Equal([(0, 0, 0, 3, true), (1, 1, 0, 3, false), (2, 2, 0, 3, false)], ranks);
    }

    private static float[] Raw()
    {
        var net = Net();
        var optimizer = optim.Adam(net.parameters(), 0.01);
        for (var step = 0; step < 20; step++)
        {
            optimizer.zero_grad();
            net.call(Input(step)).pow(2).mean().backward();
            optimizer.step();
        }

        return Weights(net);
    }

    private static TorchSharp.Modules.Sequential Net()
    {
        manual_seed(5);
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1));
    }

    private static Tensor Input(int step) => randn(6, 4, generator: new Generator((ulong)step));

    private static float[] Weights(nn.Module net) => [.. net.parameters().SelectMany(p => p.detach().data<float>().ToArray())];
}
