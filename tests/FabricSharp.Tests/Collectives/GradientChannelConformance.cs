using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives;

/// <summary>What a reducer counts on, whatever its channel.</summary>
public abstract class GradientChannelConformance
{
    /// <summary>Messages of an exchange may have so many bytes.</summary>
    private protected const int ExchangeBytes = 64;

    [Theory]
    [InlineData(ScalarType.Float32)]
    [InlineData(ScalarType.Float64)]
    [InlineData(ScalarType.BFloat16)]
    public void Reduce_PiecesOfABuffer_AveragesThemAndNothingElse(ScalarType type) => Run(3, (group, channel) =>
    {
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
    });

    [Fact]
    public void Exchange_WithReductionsStillQueued_DoesNotWaitForThem() => Run(2, (group, channel) =>
    {
        using var buffer = channel.Allocate(64);
        var early = group.Rank == 0 ? channel.Reduce(buffer, 0, 16, ScalarType.Float32, 1) : null;
        var all = new byte[4];
        channel.Exchange([(byte)group.Rank, 7], all);
        Assert.Equal([0, 7, 1, 7], all);
        (early ?? channel.Reduce(buffer, 0, 16, ScalarType.Float32, 1)).Wait();
    });

    [Fact]
    public void Exchange_TooLong_IsRefused() => Run(1, (_, channel) =>
    {
        Assert.Throws<ArgumentException>(() => channel.Exchange(new byte[65], new byte[65]));
        Assert.Throws<ArgumentException>(() => channel.Exchange(new byte[2], new byte[3]));
    });

    [Fact]
    public void Abort_OfOneRank_EndsReductionsAndExchangesOfTheOthers()
    {
        var failures = GroupOfThreads.RunEach("shm", 3, group =>
        {
            var channel = Create(group);
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

    private protected abstract GradientChannel Create(ProcessGroup group);

    private protected void Run(int ranks, Action<ProcessGroup, GradientChannel> body) => GroupOfThreads.Run("shm", ranks, group =>
    {
        using var channel = Create(group);
        body(group, channel);
        group.Barrier().Wait();
    });
}
