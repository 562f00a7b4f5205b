using FabricSharp.Strategies;
using FabricSharp.Testing;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Networks whose depth differs from rank to rank and from step to step.</summary>
public class ConditionalModelTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Train_LayersDroppedOrLeftEarly_KeepsReplicasEqual(bool leaveEarly)
    {
        var sums = RankThreads.Run(3, fabric =>
        {
            var net = new Depth();
            var (model, optimizer) = fabric.Setup(net, optim.AdamW(net.parameters(), 0.01));
            for (var step = 0; step < 8; step++)
            {
                net.Takes = leaveEarly ? layer => layer <= (step + fabric.GlobalRank) % 4 : layer => (layer + step * fabric.GlobalRank) % 3 != 0;
                optimizer.zero_grad();
                fabric.Backward(model.call(full([2, 4], fabric.GlobalRank - 1.0)).square().mean());
                optimizer.step();
            }

            var report = model.UnusedParameters;
            Assert.Equal(8, report.Passes);
            Assert.NotEmpty(report.Parameters);
            var all = fabric.AllGather(cat([.. net.parameters().Select(parameter => parameter.detach().flatten())]));
            return all[0].Equals(all[1]) && all[0].Equals(all[2]);
        }, new DDPStrategy(findUnusedParameters: true));
        Assert.All(sums, Assert.True);
    }

    private sealed class Depth : nn.Module<Tensor, Tensor>
    {
        private readonly ModuleList<Linear> layers = nn.ModuleList(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4));
        private readonly Linear head = nn.Linear(4, 1);

        public Depth()
            : base(nameof(Depth)) => RegisterComponents();

        public Func<int, bool> Takes { get; set; } = _ => true;

        public override Tensor forward(Tensor x) => head.call(layers.Index().Where(layer => Takes(layer.Index)).Aggregate(x, (y, layer) => layer.Item.call(y).relu() + y));
    }
}
