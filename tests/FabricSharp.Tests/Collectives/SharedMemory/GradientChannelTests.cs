using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.SharedMemory;

public class GradientChannelTests
{
    [Theory]
    [InlineData(ScalarType.Float32)]
    [InlineData(ScalarType.Float64)]
    [InlineData(ScalarType.BFloat16)]
    public void Reduce_PiecesOfABuffer_AveragesThemAndNothingElse(ScalarType type) => GroupOfThreads.Run("shm", 3, group =>
    {
        using var channel = group.CreateGradientChannel("test", 16);
        using var buffer = channel.Allocate(1000 * type.SizeInBytes());
        using var flat = buffer.AsTensor(type);
        flat.fill_(3 * (group.Rank + 1));
        var works = new[]
        {
            channel.Reduce(buffer, 0, 100, type, 1.0 / 3),
            channel.Reduce(buffer, 500 * type.SizeInBytes(), 400, type, 1.0 / 3),
        };
        Array.ForEach(works, work => work.Wait());
        double At(int i) => flat[i].to(ScalarType.Float64).item<double>();
        Assert.Equal([6.0, 6, 3 * (group.Rank + 1), 6, 6, 3 * (group.Rank + 1)], new[] { 0, 99, 100, 500, 899, 900 }.Select(At));
        group.Barrier().Wait();
    });

    [Fact]
    public void Allocate_ManyInARow_KeepsTheRanksInStep() => GroupOfThreads.Run("shm", 4, group =>
    {
        using var channel = group.CreateGradientChannel("test", 16);
        for (var i = 0; i < 200; i++)
            channel.Allocate(64).Dispose();
        group.Barrier().Wait();
    });

    [Fact]
    public void Exchange_WithReductionsStillQueued_DoesNotWaitForThem() => GroupOfThreads.Run("shm", 2, group =>
    {
        using var channel = group.CreateGradientChannel("test", 8);
        using var buffer = channel.Allocate(64);
        var early = group.Rank == 0 ? channel.Reduce(buffer, 0, 16, ScalarType.Float32, 1) : null;
        var all = new byte[4];
        channel.Exchange([(byte)group.Rank, 7], all);
        Assert.Equal([0, 7, 1, 7], all);
        (early ?? channel.Reduce(buffer, 0, 16, ScalarType.Float32, 1)).Wait();
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
    public void Exchange_TooLong_IsRefused() => GroupOfThreads.Run("shm", 1, group =>
    {
        using var channel = group.CreateGradientChannel("test", 64);
        Assert.Throws<ArgumentException>(() => channel.Exchange(new byte[65], new byte[65]));
        Assert.Throws<ArgumentException>(() => channel.Exchange(new byte[2], new byte[3]));
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
    public void Abort_OfOneRank_EndsReductionsAndExchangesOfTheOthers()
    {
        var failures = GroupOfThreads.RunEach("shm", 3, group =>
        {
            var channel = group.CreateGradientChannel("test", 8);
            var buffer = channel.Allocate(64);
            if (group.Rank == 0)
                channel.Abort("no");
            else if (group.Rank == 1)
                channel.Reduce(buffer, 0, 16, ScalarType.Float32, 1).Wait();
            else
                channel.Exchange([1], new byte[3]);
        });
        Assert.Null(failures[0]);
        Assert.All(failures[1..], failure => Assert.Equal("no", Assert.IsType<PeerFailedException>(failure).Reason));
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
}
