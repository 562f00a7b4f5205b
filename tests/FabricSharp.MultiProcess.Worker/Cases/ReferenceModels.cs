using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.MultiProcess.Worker.Cases;

/// <summary>
/// The four models whose training is compared with recorded runs: layers, a transformer, a deep chain, experts of which a step uses one. Batches and losses are
/// functions of step and rank.
/// </summary>
/// <param name="Name">The name.</param>
/// <param name="Model">The model, with the same values wherever it is made.</param>
/// <param name="Loss">The loss of one rank's batch.</param>
/// <param name="Batch">What the loss is computed from, by name.</param>
internal sealed record ReferenceModel(
    string Name, Module<Tensor, Tensor> Model, Func<Module<Tensor, Tensor>, int, int, Tensor> Loss, Func<int, int, Dictionary<string, Tensor>> Batch)
{
    private const int Vocabulary = 50, Length = 16;

    public static ReferenceModel Make(string name)
    {
        random.manual_seed(7);
        return name switch
        {
            "mlp" => Squares(name, Layers(8, 160), (step, rank) => Noise(step, rank, 16, 160)),
            "gpt" => new(name, new SmallGpt(Vocabulary, Length, 32, 2), LanguageLoss, Text),
            "deep" => Squares(name, Layers(120, 16), (step, rank) => Noise(step, rank, 8, 16)),
            "branchy" => Squares(name, new Experts(10, 140), (step, rank) => Noise(step, rank, 16, 140)),
            _ => throw new ArgumentException($"Unknown model '{name}'. Known: mlp, gpt, deep, branchy."),
        };
    }

    private static Tensor Noise(int step, int rank, params long[] shape)
    {
        using var generator = new Generator((ulong)(1000 * step + rank + 1));
        return randn(shape, generator: generator);
    }

    private static ReferenceModel Squares(string name, Module<Tensor, Tensor> model, Func<int, int, Tensor> input) => new(
        name,
        model,
        (net, step, rank) =>
        {
            if (net is Experts experts)
                experts.Chosen = step % 10;
            return net.call(input(step, rank)).square().mean();
        },
        (step, rank) => new() { ["input"] = input(step, rank) });

    private static Dictionary<string, Tensor> Text(int step, int rank)
    {
        using var generator = new Generator((ulong)(1000 * step + rank + 1));
        var text = randint(Vocabulary, [4, Length + 1], generator: generator, dtype: ScalarType.Int64);
        return new() { ["input"] = text.narrow(1, 0, Length), ["target"] = text.narrow(1, 1, Length) };
    }

    private static Tensor LanguageLoss(Module<Tensor, Tensor> net, int step, int rank)
    {
        var text = Text(step, rank);
        return functional.cross_entropy(net.call(text["input"]).reshape(-1, Vocabulary), text["target"].reshape(-1));
    }

    private static Sequential Layers(int count, int width) =>
        Sequential(Enumerable.Range(0, count).SelectMany(_ => new Module<Tensor, Tensor>[] { Linear(width, width), ReLU() }).ToArray());
}

/// <summary>Ten experts, of which a forward pass uses one.</summary>
internal sealed class Experts : Module<Tensor, Tensor>
{
    private readonly ModuleList<Module<Tensor, Tensor>> experts;

    public Experts(int count, int width)
        : base("Experts")
    {
        experts = ModuleList(Enumerable.Range(0, count).Select(_ => (Module<Tensor, Tensor>)Sequential(Linear(width, width), ReLU(), Linear(width, width))).ToArray());
        RegisterComponents();
    }

    public int Chosen { get; set; }

    public override Tensor forward(Tensor input) => experts[Chosen].call(input);
}

/// <summary>A transformer with causal attention.</summary>
internal sealed class SmallGpt : Module<Tensor, Tensor>
{
    private readonly Embedding tokens, positions;
    private readonly ModuleList<Block> blocks;
    private readonly LayerNorm norm;
    private readonly Linear head;

    public SmallGpt(int vocabulary, int length, int width, int depth)
        : base("SmallGpt")
    {
        tokens = Embedding(vocabulary, width);
        positions = Embedding(length, width);
        blocks = ModuleList(Enumerable.Range(0, depth).Select(_ => new Block(width)).ToArray());
        norm = LayerNorm(width);
        head = Linear(width, vocabulary, hasBias: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor input)
    {
        var x = tokens.call(input) + positions.call(arange(input.shape[1]));
        foreach (var block in blocks)
            x = block.call(x);
        return head.call(norm.call(x));
    }

    private sealed class Block : Module<Tensor, Tensor>
    {
        private const int Heads = 4;
        private readonly int _width;
        private readonly LayerNorm norm1, norm2;
        private readonly Linear qkv, mix, up, down;

        public Block(int width)
            : base("Block")
        {
            _width = width;
            (norm1, norm2) = (LayerNorm(width), LayerNorm(width));
            (qkv, mix, up, down) = (Linear(width, 3 * width), Linear(width, width), Linear(width, 4 * width), Linear(4 * width, width));
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            x = x + Attend(norm1.call(x));
            return x + down.call(functional.gelu(up.call(norm2.call(x))));
        }

        private Tensor Attend(Tensor x)
        {
            var (batch, length) = (x.shape[0], x.shape[1]);
            var parts = qkv.call(x).view(batch, length, 3, Heads, _width / Heads).permute(2, 0, 3, 1, 4).unbind(0);
            var y = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_casual: true);
            return mix.call(y.transpose(1, 2).contiguous().view(batch, length, _width));
        }
    }
}
