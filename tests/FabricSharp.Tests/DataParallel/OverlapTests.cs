using FabricSharp.DataParallel;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Testing;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>Communication goes on while the backward pass computes: seen by the order of events, not by time.</summary>
public class OverlapTests
{
    private static readonly DDPOptions SmallBuckets = new() { BucketCapMb = 0.0001 };

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Backward_FirstBucketReady_IsSentBeforeTheLastGradientIsMade(bool views)
    {
        Assert.SkipUnless(GradientHooks.IsSupported, "Without hooks gradients are averaged after the backward pass.");
        RankThreads.RunGroup(2, group =>
        {
            var (net, first) = Net();
            var gradientsThere = new List<bool>();
            var recording = new GroupRecording(call =>
            {
                if (call.Operation == GroupOperation.GradientReduce)
                    gradientsThere.Add(first.weight.grad is not null);
            });
            using var model = new DistributedDataParallel<Tensor, Tensor>(net, recording.Over(group), SmallBuckets with { GradientAsBucketView = views });
            for (var step = 0; step < 3; step++)
            {
                gradientsThere.Clear();
                recording.Clear();
                foreach (var parameter in net.parameters())
                    parameter.grad = null;
                model.Backward(model.call(ones(2, 4)).sum());
                Assert.False(gradientsThere[0], "The first bucket waited for the first layer's gradient, which is the last to be made.");
                Assert.True(gradientsThere[^1]);
                Assert.Equal(GroupOperation.GradientExchange, recording.Calls[^1].Operation); // which needs the end of the backward pass
            }

            group.Barrier().Wait();
        });
    }

    [Fact]
    public void Backward_WithinNoSync_SendsNothing() => RankThreads.RunGroup(2, group =>
    {
        var (net, _) = Net();
        var recording = new GroupRecording();
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, recording.Over(group), SmallBuckets);
        recording.Clear();
        using (model.NoSync())
            model.Backward(model.call(ones(2, 4)).sum());
        Assert.Empty(recording.Calls);
        group.Barrier().Wait();
    });

    private static (Sequential Net, Linear First) Net()
    {
        var first = nn.Linear(4, 8);
        return (nn.Sequential(first, nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)), first);
    }
}
