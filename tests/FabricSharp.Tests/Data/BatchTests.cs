using FabricSharp.Data;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Data;

/// <summary>Tensors in batches. The meta device stands in for a GPU: it is another device that every machine has.</summary>
public class BatchTests
{
    [Theory]
    [InlineData(false, 1)]
    [InlineData(true, 1)]
    [InlineData(false, 3)]
    [InlineData(true, 3)]
    public void Epoch_Dictionaries_LeavesNoTensor(bool move, int workers)
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(10), 4, shuffle: true, num_worker: workers), move ? META : CPU);
        var before = LiveTensors.Settled();

        foreach (var batch in loader)
        {
            Assert.Equal(move ? DeviceType.META : DeviceType.CPU, batch["data"].device_type);
            Assert.Equal(before + 2, Tensor.TotalCount);
        }

        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Epoch_Dictionaries_CarryTheItems()
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(5), 2), CPU);

        var data = loader.SelectMany(batch => batch["data"].data<long>().ToArray().Zip(batch["label"].data<long>().ToArray())).ToList();

        Assert.Equal(Enumerable.Range(0, 5).Select(i => ((long)i, -(long)i)), data);
    }

    [Fact]
    public void MoveNext_BatchBefore_IsDisposed()
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(4), 2), META);
        using var batches = loader.GetEnumerator();
        batches.MoveNext();
        var first = batches.Current["data"];
        Assert.False(first.IsInvalid);

        batches.MoveNext();

        Assert.True(first.IsInvalid);
    }

    [Fact]
    public void Break_InAnEpoch_LeavesNoTensor()
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(9), 2, shuffle: true), META);
        var before = LiveTensors.Settled();

        foreach (var _ in loader)
            break;

        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Epoch_InsideADisposeScope_LeavesItAlone()
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(6), 2, shuffle: true), META);
        using var scope = NewDisposeScope();

        foreach (var batch in loader)
            Assert.False(batch["data"].IsInvalid);

        Assert.Equal(0, scope.DisposablesCount);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Epoch_DisposeBatchFalse_LeavesTheBatchesToTheUserAndNothingElse(bool move)
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(6), 2, disposeBatch: false), move ? META : CPU);
        var before = LiveTensors.Settled();

        var batches = loader.ToList();

        Assert.Equal(before + 6, Tensor.TotalCount);
        foreach (var tensor in batches.SelectMany(batch => batch.Values))
        {
            Assert.False(tensor.IsInvalid);
            tensor.Dispose();
        }
    }

    [Fact]
    public void Move_TensorThatTheDataSetKeeps_IsNotDisposed()
    {
        using var kept = ones(3);
        var original = new DataLoader<long, (Tensor, Tensor)>(new Numbers(3), 1, (_, _) => (kept, kept));
        using var loader = Wrap(original, META);

        foreach (var (first, second) in loader)
        {
            Assert.Same(first, second);
            Assert.Equal(DeviceType.META, first.device_type);
        }

        Assert.False(kept.IsInvalid);
    }

    [Fact]
    public void Move_OnTheDeviceAlready_CopiesNothing()
    {
        using var kept = ones(3);
        using var loader = Wrap(new DataLoader<long, Tensor>(new Numbers(3), 1, (_, _) => kept), CPU);

        Assert.All(loader, batch => Assert.Same(kept, batch));
    }

    [Fact]
    public void Move_ListOfTensors_IsMoved()
    {
        using var values = arange(6, float32);
        using var loader = Wrap(new IterableDataLoader(utils.data.TensorDataset(values, values), 4), META);

        Assert.All(loader, batch => Assert.All(batch, tensor => Assert.Equal(DeviceType.META, tensor.device_type)));
        Assert.Equal(2, loader.Count);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void MoveNext_DataSetThrows_NamesTheItemAndLeavesNoTensor(int workers)
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(10, failsAt: 6), 4, num_worker: workers), META);
        var before = LiveTensors.Settled();
        var batches = 0;

        var error = Assert.Throws<DatasetItemException>(() =>
        {
            foreach (var _ in loader)
                batches++;
        });

        Assert.Equal(1, batches);
        Assert.Equal(6, error.Index);
        Assert.Contains("Item 6", error.Message, StringComparison.Ordinal);
        Assert.IsType<InvalidDataException>(error.InnerException);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void MoveNext_CollateThrows_SurfacesAsItIsAndLeavesNoTensor()
    {
        using var loader = Wrap(new DataLoader<long, Tensor>(new Numbers(4), 2, (_, _) => throw new InvalidDataException($"{ones(2)}")), META);
        var before = LiveTensors.Settled();

        Assert.Throws<InvalidDataException>(() => loader.Count());

        Assert.Equal(before, Tensor.TotalCount);
    }

    [Fact]
    public void Enumerate_AfterAFailure_IsTheNextEpoch()
    {
        using var loader = Wrap(new DataLoader(new NumberTensors(4, failsAt: 3), 2), CPU);
        Assert.Throws<DatasetItemException>(() => loader.Count());

        Assert.Equal([0, 1], loader.Select(batch => batch["data"].data<long>().ToArray()).First());
    }

    private static FabricDataLoader<T, S> Wrap<T, S>(DataLoader<T, S> loader, Device device) => new(loader, Shard.Whole(seed: 0), device);
}
