// A mixture of experts: a router sends each image to one of six experts. In a step in which no image of the batch goes to some expert, that expert's
// parameters get no gradient; often on one rank and not on the other.
//
// Added to the base example: findUnusedParameters. Without it the first such step is an UnfinishedReductionException. Only gradients that some rank
// has are sent; UnusedParameters says at the end who was left out, and how often.
using FabricSharp.Strategies;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;
using static TorchSharp.torch.nn.functional;

namespace FabricSharp.Examples.ByFeature;

internal static class MixtureOfExperts
{
    public static void Run(ExampleOptions options)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices, strategy: new DDPStrategy(findUnusedParameters: true));
        fabric.Launch();
        Fabric.SeedEverything(42);
        var net = new RoutedNet();
        var (model, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 2e-3));
        using var images = Clothes.TrainingImages(options);
        using var train = fabric.SetupDataLoaders(Clothes.Batches(images, [.. Enumerable.Range(0, options.Images).Select(i => (long)i)], batchSize: 16));
        for (var epoch = 0; epoch < (options.Epochs ?? 1); epoch++)
            foreach (var batch in train)
            {
                using var scope = NewDisposeScope();
                optimizer.zero_grad();
                var (scores, imbalance) = model.call(batch["image"]);
                fabric.Backward(cross_entropy(scores, batch["label"]) + 0.1 * imbalance);
                optimizer.step();
            }

        fabric.Print($"test accuracy {Clothes.TestAccuracy(fabric, net, batch => net.call(batch).Scores, options):P1}");
        fabric.Print(model.UnusedParameters);
    }

    private sealed class RoutedNet : Module<Tensor, (Tensor Scores, Tensor Imbalance)>
    {
        private const int Experts = 6, Width = 32 * 5 * 5;

        private readonly Sequential trunk = Sequential(Conv2d(1, 16, 3), ReLU(), MaxPool2d(2), Conv2d(16, 32, 3), ReLU(), MaxPool2d(2), Flatten());
        private readonly Linear router = Linear(Width, Experts);
        private readonly ModuleList<Sequential> experts = ModuleList(Enumerable.Range(0, Experts).Select(_ => Sequential(Linear(Width, 64), ReLU(), Linear(64, 10))).ToArray());

        public RoutedNet()
            : base(nameof(RoutedNet)) => RegisterComponents();

        /// <summary>
        /// Each image's scores are its expert's, times the router's trust in it: so the router learns, too. The imbalance is smallest, 1, when all
        /// experts get equally many images: without it the router soon knows one expert only.
        /// </summary>
        public override (Tensor Scores, Tensor Imbalance) forward(Tensor images)
        {
            var features = trunk.call(images);
            var chances = softmax(router.call(features), 1);
            var (trust, expert) = chances.max(1);
            var scores = zeros(images.shape[0], 10);
            for (var e = 0; e < Experts; e++)
            {
                var rows = expert.eq(e).nonzero().squeeze(1);
                if (rows.numel() > 0)
                    scores = scores.index_add(0, rows, experts[e].call(features[rows]) * trust[rows].unsqueeze(1), 1);
            }

            var shares = one_hot(expert, Experts).to(ScalarType.Float32).mean([0]);
            return (scores, Experts * (shares * chances.mean([0])).sum());
        }
    }
}
