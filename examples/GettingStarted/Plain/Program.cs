using TorchSharp.Modules;
using static TorchSharp.torch;

random.manual_seed(42);
var net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2));
var optimizer = optim.Adam(net.parameters(), lr: 5e-3);
using var loader = new IterableDataLoader(Spirals(8000), batchSize: 100, shuffle: true);

for (var epoch = 1; epoch <= 8; epoch++)
{
    var (loss, accuracy) = (0.0, 0.0);
    foreach (var batch in loader)
    {
        using var scope = NewDisposeScope();
        optimizer.zero_grad();
        var scores = net.call(batch[0]);
        var error = nn.functional.cross_entropy(scores, batch[1]);
        error.backward();
        optimizer.step();
        loss += error.item<float>() / loader.Count;
        accuracy += scores.argmax(1).eq(batch[1]).to(float32).mean().item<float>() / loader.Count;
    }

    Console.WriteLine($"epoch {epoch}: loss {loss:F3}, accuracy {accuracy:P1}");
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
