using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.SharedMemory;

public class GradientChannelTests : GradientChannelConformance
{
    [Fact]
    public void Allocate_ManyInARow_KeepsTheRanksInStep() => GroupOfThreads.Run("shm", 4, group =>
    {
        using var channel = group.CreateGradientChannel("test", 16);
        for (var i = 0; i < 200; i++)
            channel.Allocate(64).Dispose();
        group.Barrier().Wait();
    });

    [Fact]
    public void Reduce_ManyQueued_FitTheRing() => GroupOfThreads.Run("shm", 2, group =>
    {
        using var channel = group.CreateGradientChannel("test", 8);
        using var buffer = channel.Allocate(400 * 64);
        using var flat = buffer.AsTensor(ScalarType.Float32);
        flat.fill_(group.Rank + 1);
        var works = Enumerable.Range(0, 400).Select(i => channel.Reduce(buffer, i * 64, 16, ScalarType.Float32, 1)).ToList();
        works.ForEach(work => work.Wait());
        Assert.True(flat.eq(3).all().item<bool>());
        group.Barrier().Wait();
    });

    [Fact]
    public void Reduce_DifferentPieces_IsAMismatchOnAll()
    {
        var failures = GroupOfThreads.RunEach("shm", 2, group =>
        {
            var channel = group.CreateGradientChannel("test", 8);
            channel.Reduce(channel.Allocate(128), group.Rank * 64, 16, ScalarType.Float32, 1).Wait();
        });
        Assert.All(failures, failure => Assert.Contains("at byte 64 of bucket buffer 1", Assert.IsType<CollectiveMismatchException>(failure).Message));
    }

    [Fact]
    public void Create_DifferentNames_IsAMismatchOnAll()
    {
        var failures = GroupOfThreads.RunEach("shm", 2, group => group.CreateGradientChannel($"model {group.Rank}", 8));
        Assert.All(failures, failure => Assert.IsAssignableFrom<DistributedException>(failure));
        Assert.Contains(failures, failure => failure is CollectiveMismatchException);
    }

    [Fact]
    public void Exchange_WhileAnotherRankWaitsForAnAllReduce_DoesItsShareOfThat() => GroupOfThreads.Run("shm", 2, group =>
    {
        using var channel = group.CreateGradientChannel("test", 8);
        using var large = ones(2_000_000); // more than the staging slots hold: rank 0 has to come back to it
        var work = group.AllReduce(large);
        if (group.Rank == 1)
            work.Wait();
        channel.Exchange(new byte[8], new byte[16]);
        work.Wait();
        Assert.Equal(4_000_000, large.sum().item<float>());
        group.Barrier().Wait();
    });

    [Fact]
    public void Wait_RanksInDifferentChannels_ThrowsOnEveryRankWithBothWaits()
    {
        var failures = GroupOfThreads.RunEach("shm", 3, group =>
        {
            using var channel = group.CreateGradientChannel("test", 8);
            if (group.Rank == 1)
                group.Barrier().Wait();
            else
                channel.Exchange(new byte[8], new byte[24]);
        });
        Assert.All(failures, failure =>
        {
            var message = Assert.IsType<CollectiveMismatchException>(failure).Message;
            Assert.Contains("rank 1 waits in operation 1 of 'the process group' (Barrier)", message, StringComparison.Ordinal);
            Assert.Contains("rank 2 waits in operation 1 of 'test, control'", message, StringComparison.Ordinal);
        });
    }

    [Fact]
    public void Tensor_OfADisposedBuffer_StaysReadable() => GroupOfThreads.Run("shm", 2, group =>
    {
        using var channel = group.CreateGradientChannel("test", 8);
        var buffer = channel.Allocate(64);
        var flat = buffer.AsTensor(ScalarType.Float32);
        flat.fill_(5);
        using var view = flat.slice(0, 4, 8, 1);
        flat.Dispose();
        buffer.Dispose();
        buffer.Dispose();
        Assert.Equal(20, view.sum().item<float>());
        group.Barrier().Wait();
    });

    private protected override GradientChannel Create(ProcessGroup group) => group.CreateGradientChannel("test", ExchangeBytes);
}
