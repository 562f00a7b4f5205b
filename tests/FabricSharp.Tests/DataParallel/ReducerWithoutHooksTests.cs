using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Tests.Collectives;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Where libtorch gives no hooks: gradients are looked for when <c>Backward</c> is over.</summary>
public class ReducerWithoutHooksTests
{
    private static readonly DDPOptions WithoutHooks = new() { UsesGradientHooks = false };
    private static readonly DDPOptions FindUnused = WithoutHooks with { FindUnusedParameters = true };

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Backward_InsideABackwardPass_KeepsWhatWasAccumulated(bool hooks) => GroupOfThreads.Run("shm", 2, group =>
    {
        var net = new Branchy();
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, new DDPOptions { UsesGradientHooks = hooks });
        model.call(ones(1, 4)).Dispose();
        model.Backward(Sum(net.parameters()) * (group.Rank + 1));
        model.call(ones(1, 4)).Dispose();
        var x = ones(1, requires_grad: true);
        model.Backward(Nested.apply(x, (Action)(() => model.Backward(net.Trunk.weight!.sum() * (group.Rank + 1)))).sum() + Sum(net.parameters().Skip(1)) * 0);
        model.EnsureReduced();
        Assert.True(net.Trunk.weight!.grad!.eq(3).all().item<bool>(), net.Trunk.weight.grad.str());
        Assert.True(net.BranchA.weight!.grad!.eq(1.5).all().item<bool>(), net.BranchA.weight.grad.str());
        group.Barrier().Wait();
    });

    [Fact]
    public void Gradient_ThatCannotBeAveragedOnOneRank_EndsTheOthers()
    {
        var failures = GroupOfThreads.RunEach("shm", 2, group =>
        {
            var net = nn.Embedding(4, 2, sparse: group.Rank == 1);
            using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, WithoutHooks);
            model.Backward(model.call(zeros([2], ScalarType.Int64)).sum());
        });
        Assert.Contains("is sparse", Assert.IsType<InvalidOperationException>(failures[1]).Message);
        Assert.Contains("is sparse", Assert.IsType<PeerFailedException>(failures[0]).Message);
    }

    [Fact]
    public void PlainBackward_OverGradientsThatAreThere_IsAveragedAtTheStep() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Pass(m => m.Trunk.weight!.sum() * (replica.Rank + 1));
        replica.Reducer.BeforeStep();
        replica.Reducer.BeforeForward();
        (replica.Module.Trunk.weight!.sum() * (replica.Rank + 1)).backward();
        replica.Reducer.BeforeStep();
        Assert.True(replica.Module.Trunk.weight!.grad!.eq(3).all().item<bool>(), replica.Module.Trunk.weight.grad.str());
    }, FindUnused);

    [Fact]
    public void PlainBackward_InsideNoSync_CountsInTheSynchronisingPass() => Replica<Branchy>.Run(2, () => new Branchy(), replica =>
    {
        replica.Reducer.RequiresSynchronization = false;
        replica.Reducer.BeforeForward();
        (replica.Module.BranchA.weight!.sum() * (replica.Rank + 1)).backward();
        replica.Reducer.RequiresSynchronization = true;
        replica.Pass(m => m.Trunk.weight!.sum() * (replica.Rank + 1));
        replica.Reducer.BeforeStep();
        Assert.True(replica.Module.BranchA.weight!.grad!.eq(1.5).all().item<bool>(), replica.Module.BranchA.weight.grad.str());
    }, FindUnused);

    private static Tensor Sum(IEnumerable<Tensor> parameters) => parameters.Select(parameter => parameter.sum()).Aggregate((x, y) => x + y);

    /// <summary>A function whose backward pass runs something.</summary>
    private sealed class Nested : autograd.SingleTensorFunction<Nested>
    {
        public override string Name => nameof(Nested);

        public override Tensor forward(autograd.AutogradContext context, params object[] arguments)
        {
            context.save_data("body", arguments[1]);
            return ((Tensor)arguments[0]).detach().clone();
        }

        public override List<Tensor> backward(autograd.AutogradContext context, Tensor gradient)
        {
            using var gradientsOn = enable_grad();
            ((Action)context.get_data("body"))();
            return [gradient, null!];
        }
    }
}
