using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Precision;

/// <summary>A linear layer that notes what it sees inside its forward pass.</summary>
internal sealed class Probe : nn.Module<Tensor, Tensor>
{
    private readonly Linear linear = nn.Linear(3, 2);

    public Probe()
        : base(nameof(Probe)) => RegisterComponents();

    public Linear Linear => linear;

    public bool Throws { get; set; }

    public ScalarType InputType { get; private set; }

    public ScalarType ProductType { get; private set; }

    public ScalarType DefaultType { get; private set; }

    public ScalarType NewTensorType { get; private set; }

    public override Tensor forward(Tensor input)
    {
        (InputType, DefaultType) = (input.dtype, get_default_dtype());
        using var made = zeros(1);
        NewTensorType = made.dtype;
        if (Throws)
            throw new NotFiniteNumberException("thrown in forward");
        var output = linear.call(input);
        ProductType = output.dtype;
        return output;
    }
}
