using FabricSharp.Data;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Training in which everything that can be random is: weights, order, augmentation, dropout. Reports every loss, bit by bit.</summary>
internal static class Seeded
{
    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        Fabric.SeedEverything(settings.Number("seed", 1));
        var net = nn.Sequential(nn.Linear(1, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1));
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), 0.01));
        using var train = fabric.SetupDataLoaders(new DataLoader<float, Tensor>(new Augmented(), 4, (items, _) => tensor(items.ToArray()).unsqueeze(1), shuffle: true, num_worker: 3));
        train.Prefetch = settings.Number("prefetch", 0);
        var losses = new List<int>();
        var norms = new List<int>();
        for (var epoch = 0; epoch < 2; epoch++)
        {
            foreach (var batch in train)
            {
                optimizer.zero_grad();
                using var loss = model.call(batch).pow(2).mean();
                fabric.Backward(loss);
                using var norm = fabric.ClipGradients(model, optimizer, maxNorm: 0.5);
                optimizer.step();
                losses.Add(BitConverter.SingleToInt32Bits(loss.item<float>()));
                norms.Add(BitConverter.SingleToInt32Bits(norm.item<float>()));
            }
        }

        Report.Send(new { rank = fabric.GlobalRank, losses, norms });
    }

    private sealed class Augmented : utils.data.Dataset<float>
    {
        public override long Count => 37;

        public override float GetTensor(long index) => index + ItemRandom.Current.NextSingle();
    }
}
