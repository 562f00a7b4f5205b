using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Testing;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Backward passes that are not those of plain layers.</summary>
public class CustomFunctionTests
{
    /// <summary>As in PyTorch: rank 1's function says nothing of the second factor, which counts as zeros there.</summary>
    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void Backward_FunctionWithoutGradientForAParameter_CountsAsZeros(bool findUnused, bool views) => RankThreads.RunGroup(2, group =>
    {
        var (a, b) = (new Parameter(full([3], 2f)), new Parameter(full([3], 5f)));
        var net = new Factors(a, b);
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { FindUnusedParameters = findUnused, GradientAsBucketView = views });
        net.SilentAboutB = group.Rank == 1;
        for (var step = 0; step < 3; step++)
        {
            a.grad = b.grad = null;
            model.Backward(model.call(ones(3)).sum());
            model.EnsureReduced();
            Assert.True(a.grad!.eq(5).all().item<bool>());
            Assert.True(b.grad!.eq(1).all().item<bool>(), $"{b.grad!.str()}: half of rank 0's 2 was expected.");
        }

        group.Barrier().Wait();
    });

    /// <summary>What is averaged is the gradient itself; a graph of it would be this rank's alone, as in PyTorch.</summary>
    [Fact]
    public void Backward_CreateGraph_AveragesTheFirstOrder()
    {
        Assert.SkipUnless(GradientHooks.IsSupported, "Without hooks a plain backward is not seen.");
        RankThreads.RunGroup(2, CreateGraph);
    }

    private static void CreateGraph(ProcessGroup group)
    {
        var net = nn.Linear(2, 1, hasBias: false);
        using (no_grad())
            net.weight.fill_(2);
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { GradientAsBucketView = false });
        for (var step = 0; step < 2; step++)
        {
            net.weight.grad = null;
            var loss = model.call(full([1, 2], group.Rank + 1.0)).square().sum(); // 2 x (4 x) per element: 16 x² with x = 1, 2
            loss.backward(create_graph: true);
            model.EnsureReduced();
            Assert.True(net.weight.grad!.allclose(full([1, 2], 2 * 4 * (1 + 4) / 2f)), net.weight.grad!.str());
        }

        group.Barrier().Wait();
    }

    private sealed class Factors : nn.Module<Tensor, Tensor>
    {
        private readonly Parameter a, b;

        public Factors(Parameter a, Parameter b)
            : base(nameof(Factors))
        {
            (this.a, this.b) = (a, b);
            RegisterComponents();
        }

        public bool SilentAboutB { get; set; }

        public override Tensor forward(Tensor x) => Product.apply(a, b, SilentAboutB) * x;
    }

    private sealed class Product : autograd.SingleTensorFunction<Product>
    {
        public override string Name => nameof(Product);

        public override Tensor forward(autograd.AutogradContext context, params object[] arguments)
        {
            context.save_for_backward([(Tensor)arguments[0], (Tensor)arguments[1]]);
            context.save_data("silent", arguments[2]);
            return (Tensor)arguments[0] * (Tensor)arguments[1];
        }

        public override List<Tensor> backward(autograd.AutogradContext context, Tensor gradient)
        {
            var saved = context.get_saved_variables();
            return [gradient * saved[1], (bool)context.get_data("silent") ? null! : gradient * saved[0], null!];
        }
    }
}
