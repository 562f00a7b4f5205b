using FabricSharp.DataParallel;
using FabricSharp.Strategies;
using FabricSharp.Testing;
using FabricSharp.Tests.Checkpointing;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Fabric's loop against that of data-parallel training without Fabric.</summary>
public class RawTrainingTests
{
    [Fact]
    public void Train_TwoRanksWithFabricOrWithout_GivesTheSameBits()
    {
        var withFabric = RankThreads.Run(2, fabric =>
        {
            var net = Net();
            var (model, optimizer) = fabric.Setup(net, optim.AdamW(net.parameters(), 0.01));
            for (var step = 0; step < 20; step++)
            {
                optimizer.zero_grad();
                fabric.Backward(model.call(Data(step, fabric.GlobalRank)).square().mean());
                optimizer.step();
            }

            return Checkpoints.Fingerprint(net);
        }, new DDPStrategy());
        var raw = RankThreads.RunGroup(2, group =>
        {
            var net = Net();
            var optimizer = optim.AdamW(net.parameters(), 0.01);
            using var model = new DistributedDataParallel<Tensor, Tensor>(net, group);
            for (var step = 0; step < 20; step++)
            {
                foreach (var parameter in net.parameters())
                    parameter.grad = null;
                model.Backward(model.call(Data(step, group.Rank)).square().mean());
                model.EnsureReduced();
                optimizer.step();
            }

            group.Barrier().Wait();
            return Checkpoints.Fingerprint(net);
        });
        Assert.Equal(withFabric[0], withFabric[1]);
        Assert.Equal(withFabric, raw);
    }

    private static Sequential Net()
    {
        var net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2));
        using var generator = new Generator(7);
        using (no_grad())
            foreach (var parameter in net.parameters())
                parameter.copy_(randn(parameter.shape, generator: generator) * 0.3);
        return net;
    }

    private static Tensor Data(int step, int rank) => randn([5, 6], generator: new Generator((ulong)(100 * step + rank + 1)));
}
