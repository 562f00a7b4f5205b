using System.Collections.Concurrent;
using FabricSharp.Data;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Data;

/// <summary>Batches that are made ahead. The meta device stands in for a GPU.</summary>
public class PrefetchTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(100)]
    public void Epoch_Prefetched_HasTheSameBatches(int ahead)
    {
        using var loader = Wrap(Numbers.Loader(10, 3), ahead);
        Assert.Equal([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]], loader);
        Assert.Equal(4, loader.Count);
    }

    [Fact]
    public void MoveNext_Prefetched_MakesThatManyAheadAndNoMore()
    {
        var made = new BlockingCollection<long>();
        using var loader = Wrap(
            new DataLoader<long, Tensor>(new Numbers(10), 1, (items, _) =>
            {
                made.Add(items.Single());
                return tensor(items.Single());
            }),
            ahead: 2,
            META);
        using var batches = loader.GetEnumerator();
        batches.MoveNext();
        Assert.Equal(DeviceType.META, batches.Current.device_type);
        for (var i = 0; i < 3; i++)
            Assert.True(made.TryTake(out _, Limit)); // the one in use and two ahead
        Assert.False(made.TryTake(out _, TimeSpan.FromMilliseconds(100)));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Break_Prefetched_LeavesNoTensorAndNoThread(bool move)
    {
        Thread? thread = null;
        var before = LiveTensors.Settled();
        using (var loader = Wrap(
            new DataLoader<long, Tensor>(new Numbers(50), 2, (items, _) =>
            {
                thread = Thread.CurrentThread;
                return tensor(items.ToArray());
            }),
            ahead: 3,
            move ? META : CPU))
        {
            foreach (var batch in loader)
            {
                Assert.False(batch.IsInvalid);
                break;
            }
        }

        Assert.NotNull(thread);
        Assert.NotSame(Thread.CurrentThread, thread);
        Assert.False(thread.IsAlive);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void MoveNext_Prefetched_DisposesTheBatchBefore()
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(4), 2), ahead: 1);
        using var batches = loader.GetEnumerator();
        batches.MoveNext();
        var first = batches.Current["data"];
        Assert.False(first.IsInvalid);
        batches.MoveNext();
        Assert.True(first.IsInvalid);
    }

    [Fact]
    public void Epoch_PrefetchedWithDisposeBatchFalse_LeavesUsedBatchesToTheUser()
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(20), 2, disposeBatch: false), ahead: 3);
        var before = LiveTensors.Settled();
        var batch = loader.First();
        Assert.Equal(before + 2, Tensor.TotalCount);
        foreach (var tensor in batch.Values)
            tensor.Dispose();
    }

    [Fact]
    public void MoveNext_PrefetchedDataSetThrows_GivesTheBatchesBeforeFirst()
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(10, failsAt: 6), 2), ahead: 2);
        var before = LiveTensors.Settled();
        var batches = 0;
        var error = Assert.Throws<DatasetItemException>(() =>
        {
            foreach (var _ in loader)
                batches++;
        });
        Assert.Equal(3, batches);
        Assert.Equal(6, error.Index);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Epoch_PrefetchedShuffled_IsTheSamplersOrder()
    {
        using var loader = Wrap(Numbers.Loader(9, 4, shuffle: true), ahead: 2);
        var sampler = new DistributedSampler(9, 1, 0);
        for (var epoch = 0; epoch < 2; epoch++)
        {
            sampler.SetEpoch(epoch);
            Assert.Equal(sampler, loader.SelectMany(batch => batch));
        }
    }

    [Fact]
    public void Prefetch_Negative_IsRefused()
    {
        using var loader = Wrap(Numbers.Loader(1, 1), ahead: 0);
        Assert.Throws<ArgumentOutOfRangeException>(() => loader.Prefetch = -1);
    }

    private static FabricDataLoader<T, S> Wrap<T, S>(DataLoader<T, S> loader, int ahead, Device? device = null) =>
        new(loader, Shard.Whole(seed: 0), device ?? CPU) { Prefetch = ahead };
}
