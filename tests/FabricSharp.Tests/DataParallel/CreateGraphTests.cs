using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Testing;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Backward passes that keep a graph of the gradients.</summary>
public class CreateGraphTests
{
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
            var loss = model.call(full([1, 2], group.Rank + 1.0)).square().sum(); // (4 r)², of which the gradient is 8 r² with r = 1, 2
            loss.backward(create_graph: true);
            model.EnsureReduced();
            Assert.True(net.weight.grad!.allclose(full([1, 2], 20f)), net.weight.grad!.str());
        }

        group.Barrier().Wait();
    }
}
