using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>A trunk and three branches, of which a pass takes those it is told to.</summary>
internal sealed class Branchy : nn.Module<Tensor, Tensor>
{
    private readonly Linear trunk = nn.Linear(4, 4);
    private readonly Linear a = nn.Linear(4, 3);
    private readonly Linear b = nn.Linear(4, 3);
    private readonly Linear c = nn.Linear(4, 3);

    public Branchy()
        : base(nameof(Branchy)) => RegisterComponents();

    /// <summary>Letters of the branches to take.</summary>
    public string Take { get; set; } = "abc";

    public Linear Trunk => trunk;

    public Linear BranchA => a;

    public override Tensor forward(Tensor x)
    {
        var h = trunk.call(x).tanh();
        return Take.Select(letter => (letter == 'a' ? a : letter == 'b' ? b : c).call(h)).Aggregate((x, y) => x + y);
    }

    /// <summary>A loss over some branches, with data of the rank and the step.</summary>
    public static Func<Branchy, Tensor> Loss(string take, int rank, int step = 0) => model =>
    {
        model.Take = take;
        var y = model.call(randn([5, 4], generator: new Generator((ulong)(1000 * step + rank + 1))));
        return (y * y).mean();
    };
}
