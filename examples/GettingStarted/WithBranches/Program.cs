using FabricSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

var fabric = new Fabric(accelerator: "cpu", devices: args[0]);
fabric.Launch();
Fabric.SeedEverything(42);
var net = new SpiralNet(seed: fabric.GlobalRank);
var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 5e-3));
using var loader = fabric.SetupDataLoaders(new IterableDataLoader(Spirals(8000), batchSize: 100, shuffle: true));

for (var epoch = 1; epoch <= 8; epoch++)
{
    var (loss, accuracy) = (0.0, 0.0);
    foreach (var batch in loader)
    {
        using var scope = NewDisposeScope();
        optimizer.zero_grad();
        var scores = model.call(batch[0]);
        var error = nn.functional.cross_entropy(scores, batch[1]);
        fabric.Backward(error);
        optimizer.step();
        loss += error.item<float>() / loader.Count;
        accuracy += scores.argmax(1).eq(batch[1]).to(float32).mean().item<float>() / loader.Count;
    }

    fabric.Print($"epoch {epoch}: loss {fabric.AllReduce(loss):F3}, accuracy {fabric.AllReduce(accuracy):P1}");
}

// Two spirals, one within the other: points (count, 2), and on which of the two each lies (count).
static TensorDataset Spirals(long count)
{
    var which = arange(count) % 2;
    var radius = rand(count).sqrt();
    var angle = 3 * MathF.PI * radius + MathF.PI * which;
    var points = stack([radius * angle.cos(), radius * angle.sin()], 1) + 0.02 * randn(count, 2);
    return utils.data.TensorDataset(points, which);
}

// Three residual blocks, each of which is left out in half of the training steps: stochastic depth.
internal sealed class SpiralNet : nn.Module<Tensor, Tensor>
{
    private readonly Linear first = nn.Linear(2, 64), last = nn.Linear(64, 2);
    private readonly ModuleList<Linear> blocks = nn.ModuleList(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64));
    private readonly Random coin;

    public SpiralNet(int seed)
        : base(nameof(SpiralNet))
    {
        coin = new Random(seed);
        RegisterComponents();
    }

    public override Tensor forward(Tensor points)
    {
        var x = first.call(points).relu();
        foreach (var block in blocks)
            if (!training || coin.Next(2) == 0)
                x = x + block.call(x).relu();
        return last.call(x);
    }
}
