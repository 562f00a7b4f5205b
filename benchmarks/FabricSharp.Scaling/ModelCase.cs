using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.Scaling;

/// <summary>A model with its batch and loss.</summary>
internal sealed record ModelCase(string Name, Module<Tensor, Tensor> Model, Tensor Input, Func<Tensor, Tensor> Loss, Action<int>? BeforeStep, bool UsesEverything, int StepsPerBlock)
{
    public static IReadOnlyList<string> Names { get; } = ["mlp", "gpt", "deep", "branchy"];

    public static ModelCase Make(string name)
    {
        random.manual_seed(1);
        return name switch
        {
            "mlp" => new(name, Layers(8, 1024), randn(32, 1024), MeanOfSquares, null, true, 6),
            "gpt" => Gpt(),
            "deep" => new(name, Layers(500, 32), randn(8, 32), MeanOfSquares, null, true, 8),
            "branchy" => Branchy(),
            _ => throw new ArgumentException($"Unknown model '{name}'. Known: {string.Join(", ", Names)}."),
        };
    }

    private static Tensor MeanOfSquares(Tensor output) => output.pow(2).mean();

    private static Module<Tensor, Tensor> Layers(int count, int width) =>
        Sequential(Enumerable.Range(0, count).SelectMany(_ => new Module<Tensor, Tensor>[] { Linear(width, width), ReLU() }).ToArray());

    private static ModelCase Gpt()
    {
        var targets = randint(0, 1000, [8 * 64], ScalarType.Int64);
        return new("gpt", new TinyGpt(), randint(0, 1000, [8, 64], ScalarType.Int64), logits => functional.cross_entropy(logits.view(-1, 1000), targets), null, true, 2);
    }

    private static ModelCase Branchy()
    {
        var model = new Experts();
        return new("branchy", model, randn(32, 512), MeanOfSquares, step => model.Chosen = step % 10, false, 50);
    }

    /// <summary>Ten experts, of which a step uses one.</summary>
    private sealed class Experts : Module<Tensor, Tensor>
    {
        private readonly TorchSharp.Modules.ModuleList<Module<Tensor, Tensor>> _experts;

        public Experts()
            : base("Experts")
        {
            _experts = ModuleList(Enumerable.Range(0, 10).Select(_ => (Module<Tensor, Tensor>)Sequential(Linear(512, 512), ReLU(), Linear(512, 512))).ToArray());
            RegisterComponents();
        }

        public int Chosen { get; set; }

        public override Tensor forward(Tensor input) => _experts[Chosen].call(input);
    }
}
