using FabricSharp.DataParallel;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>An autograd function that returns no gradient for a parameter: its hook fires, and there is nothing.</summary>
public class SilentFunctionTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Backward_NoGradientFromTheFunction_CountsAsUnused(bool hooks) => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        for (var step = 0; step < 3; step++)
        {
            replica.ZeroGradients();
            replica.Pass(Loss);
            replica.Reducer.BeforeStep();
            Assert.Null(replica.Module.BranchA.weight!.grad);
            Assert.True(replica.Module.Trunk.weight!.grad!.eq(2).all().item<bool>());
        }

        Assert.Contains(replica.Reducer.UnusedParameters.Parameters, parameter => parameter is { Name: "a.weight", UnusedEverywhere: 3 });
    }, new DDPOptions { FindUnusedParameters = true, UsesGradientHooks = hooks });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Backward_NoGradientWithoutTheFlag_CountsAsZeros(bool views) => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Pass(m => Loss(m) + m.named_parameters().Where(p => p.name is not ("a.weight" or "trunk.weight")).Select(p => p.parameter.sum()).Aggregate((x, y) => x + y));
        replica.Reducer.BeforeStep();
        Assert.True(replica.Module.BranchA.weight!.grad!.eq(0).all().item<bool>());
    }, new DDPOptions { GradientAsBucketView = views });

    private static Tensor Loss(Branchy module) => Silent.Run(module.Trunk.weight!, module.BranchA.weight!).sum();

    private sealed class Silent : autograd.SingleTensorFunction<Silent>
    {
        public override string Name => nameof(Silent);

        public static Tensor Run(Tensor heard, Tensor ignored) => apply(heard, ignored);

        public override Tensor forward(autograd.AutogradContext context, params object[] vars)
        {
            using TorchSharp.Scalar two = 2;
            return ((Tensor)vars[0]).mul(two);
        }

        public override List<Tensor> backward(autograd.AutogradContext context, Tensor gradient)
        {
            using TorchSharp.Scalar two = 2;
            return [gradient.mul(two), null!];
        }
    }
}
