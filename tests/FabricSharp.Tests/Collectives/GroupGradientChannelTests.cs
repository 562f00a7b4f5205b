using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives;

/// <summary>The channel for back ends without memory of their own, over groups that can be threads here.</summary>
public class GroupGradientChannelTests : GradientChannelConformance
{
    [Fact]
    public void Tensor_OfADisposedBuffer_StaysReadable() => Run(1, (_, channel) =>
    {
        var buffer = channel.Allocate(64);
        using var flat = buffer.AsTensor(ScalarType.Float32);
        buffer.Dispose();
        buffer.Dispose();
        flat.fill_(5);
        Assert.Equal(16 * 5, flat.sum().item<float>());
    });

    [Fact]
    public void Reduce_InsideAScope_IsNotDisposedWithIt() => Run(2, (_, channel) =>
    {
        using var buffer = channel.Allocate(1 << 20);
        Work work;
        using (NewDisposeScope())
            work = channel.Reduce(buffer, 0, 1 << 18, ScalarType.Float32, 0.5);
        work.Wait();
        Assert.True(work.IsCompleted);
        Assert.Null(work.Exception);
    });

    private protected override GradientChannel Create(ProcessGroup group)
    {
        int[] all = [.. Enumerable.Range(0, group.Size)];
        return new GroupGradientChannel(group.NewGroup(all)!, group.NewGroup(all)!, ExchangeBytes);
    }
}
