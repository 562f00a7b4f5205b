using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Wrappers;

/// <summary>A weight, a frozen one, a buffer, one that is not saved, and a sub-module.</summary>
internal sealed class SummandParts : nn.Module<Tensor, Tensor>
{
    private readonly Parameter scale = new(ones(1), requires_grad: true);
    private readonly Parameter frozen = new(zeros(1), requires_grad: false);
    private readonly Linear linear = nn.Linear(3, 2);

    public SummandParts()
        : base(nameof(SummandParts))
    {
        RegisterComponents();
        register_buffer("count", tensor(new long[] { 7 }));
        register_buffer("cache", full(2, 0.5f), persistent: false);
    }

    public override Tensor forward(Tensor x) => linear.call(x * scale + frozen);

    public Tensor Twice(Tensor x) => call(x) * 2;
}

/// <summary>Add their inputs and apply the parts: one for each number of inputs.</summary>
internal sealed class Sum1 : nn.Module<Tensor, Tensor>
{
    private readonly SummandParts _parts = new();

    public Sum1()
        : base(nameof(Sum1)) => RegisterComponents();

    public SummandParts Parts => _parts;

    public override Tensor forward(Tensor x1) => _parts.call(x1);
}

internal sealed class Sum2 : nn.Module<Tensor, Tensor, Tensor>
{
    private readonly SummandParts _parts = new();

    public Sum2()
        : base(nameof(Sum2)) => RegisterComponents();

    public SummandParts Parts => _parts;

    public override Tensor forward(Tensor x1, Tensor x2) => _parts.call(x1 + x2);
}

internal sealed class Sum3 : nn.Module<Tensor, Tensor, Tensor, Tensor>
{
    private readonly SummandParts _parts = new();

    public Sum3()
        : base(nameof(Sum3)) => RegisterComponents();

    public SummandParts Parts => _parts;

    public override Tensor forward(Tensor x1, Tensor x2, Tensor x3) => _parts.call(x1 + x2 + x3);
}

internal sealed class Sum4 : nn.Module<Tensor, Tensor, Tensor, Tensor, Tensor>
{
    private readonly SummandParts _parts = new();

    public Sum4()
        : base(nameof(Sum4)) => RegisterComponents();

    public SummandParts Parts => _parts;

    public override Tensor forward(Tensor x1, Tensor x2, Tensor x3, Tensor x4) => _parts.call(x1 + x2 + x3 + x4);
}

internal sealed class Sum5 : nn.Module<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>
{
    private readonly SummandParts _parts = new();

    public Sum5()
        : base(nameof(Sum5)) => RegisterComponents();

    public SummandParts Parts => _parts;

    public override Tensor forward(Tensor x1, Tensor x2, Tensor x3, Tensor x4, Tensor x5) => _parts.call(x1 + x2 + x3 + x4 + x5);
}

internal sealed class Sum6 : nn.Module<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>
{
    private readonly SummandParts _parts = new();

    public Sum6()
        : base(nameof(Sum6)) => RegisterComponents();

    public SummandParts Parts => _parts;

    public override Tensor forward(Tensor x1, Tensor x2, Tensor x3, Tensor x4, Tensor x5, Tensor x6) => _parts.call(x1 + x2 + x3 + x4 + x5 + x6);
}
