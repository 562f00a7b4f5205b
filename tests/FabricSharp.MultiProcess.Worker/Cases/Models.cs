using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.MultiProcess.Worker.Cases;

/// <summary>A trunk and three branches, of which a forward pass takes one; −1 takes all.</summary>
internal sealed class Branching : Module<Tensor, Tensor>
{
    private readonly Linear trunk;
    private readonly ModuleList<Module<Tensor, Tensor>> branches;

    public Branching(int width = 8)
        : base("Branching")
    {
        trunk = Linear(8, width);
        branches = ModuleList<Module<Tensor, Tensor>>(Linear(width, 4), Sequential(Linear(width, width), Tanh(), Linear(width, 4)), Linear(width, 4, hasBias: false));
        RegisterComponents();
    }

    public int Chosen { get; set; }

    public override Tensor forward(Tensor input)
    {
        var x = trunk.call(input).tanh();
        return Chosen >= 0 ? branches[Chosen].call(x) : branches[0].call(x) + branches[1].call(x) + branches[2].call(x);
    }
}

/// <summary>One weight that is used as two layers.</summary>
internal sealed class Tied : Module<Tensor, Tensor>
{
    private readonly Linear enter, first, second;

    public Tied(int width)
        : base("Tied")
    {
        enter = Linear(8, width);
        first = Linear(width, width);
        second = Linear(width, width);
        second.weight = first.weight;
        RegisterComponents();
    }

    public override Tensor forward(Tensor input) => second.call(first.call(enter.call(input)).tanh());
}

internal sealed class Recurrent : Module<Tensor, Tensor>
{
    private readonly LSTM lstm = LSTM(6, 10, numLayers: 2, batchFirst: true);
    private readonly Linear head = Linear(10, 3);

    public Recurrent()
        : base("Recurrent") => RegisterComponents();

    public override Tensor forward(Tensor input) => head.call(lstm.call(input).Item1.select(1, -1));
}

internal sealed class Words : Module<Tensor, Tensor>
{
    private readonly Embedding embedding = Embedding(20, 8);
    private readonly Linear head = Linear(8, 3);

    public Words()
        : base("Words") => RegisterComponents();

    public override Tensor forward(Tensor input) => head.call(embedding.call(input).mean([1]));
}

internal sealed class Attention : Module<Tensor, Tensor>
{
    private readonly MultiheadAttention attention = MultiheadAttention(8, 2);
    private readonly LayerNorm norm = LayerNorm(8);

    public Attention()
        : base("Attention") => RegisterComponents();

    public override Tensor forward(Tensor input) => norm.call(attention.call(input, input, input, null, false, null).Item1 + input);
}

/// <summary>Parameters of float32 and of float64.</summary>
internal sealed class MixedTypes : Module<Tensor, Tensor>
{
    private readonly Linear single = Linear(8, 8), last = Linear(8, 2);
    private readonly Linear wide = Linear(8, 8, dtype: ScalarType.Float64);

    public MixedTypes()
        : base("MixedTypes") => RegisterComponents();

    public override Tensor forward(Tensor input) => last.call(wide.call(single.call(input).tanh().to(ScalarType.Float64)).to(ScalarType.Float32));
}

/// <summary>A parameter without dimensions and one without elements.</summary>
internal sealed class OddSizes : Module<Tensor, Tensor>
{
    private readonly Parameter scale = new(tensor(1.5f));
    private readonly Parameter nothing = new(empty(0, 8));
    private readonly Linear linear = Linear(8, 3);

    public OddSizes()
        : base("OddSizes") => RegisterComponents();

    public override Tensor forward(Tensor input) => linear.call(cat([input, nothing], 0)) * scale;
}

/// <summary>
/// Tables that are added through views: their gradients are views of a tensor that the backward pass has yet to use. Eight, for the pool then has
/// places to spare, so that this tensor is born there.
/// </summary>
internal sealed class Positional : Module<Tensor, Tensor>
{
    private readonly Linear enter = Linear(8, 256), head = Linear(256, 4);
    private readonly ParameterList tables = new(Enumerable.Range(0, 8).Select(_ => new Parameter(randn(64, 256) / 8)).ToArray());

    public Positional()
        : base("Positional") => RegisterComponents();

    public override Tensor forward(Tensor input)
    {
        var x = enter.call(input);
        foreach (var table in tables)
            x = x + table.unsqueeze(0);
        return head.call(x.tanh());
    }
}

/// <summary>Two parameters whose gradients are views of one tensor.</summary>
internal sealed class TwoViews : Module<Tensor, Tensor>
{
    private readonly Parameter first = new(randn(64 * 256)), second = new(randn(256 * 64));
    private readonly Linear enter = Linear(8, 256), head = Linear(256, 4);

    public TwoViews()
        : base("TwoViews") => RegisterComponents();

    public override Tensor forward(Tensor input) => head.call((enter.call(input) * (first.view(64, 256) + second.view(64, 256))).tanh());
}
