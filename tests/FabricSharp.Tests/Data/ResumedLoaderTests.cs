using FabricSharp.Data;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Data;

public class ResumedLoaderTests
{
    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(2, true)]
    [InlineData(4, false)]
    public void LoadState_InAnEpoch_GoesOnWithTheNextBatch(int batches, bool dropLast)
    {
        using var loader = Make(shuffle: true, dropLast);
        Epoch(loader);
        var state = default(DataLoaderState);
        var rest = new List<long>();
        foreach (var batch in loader)
        {
            if (state is not null)
                rest.AddRange(batch);
            if (loader.State.Batches == batches)
                state ??= loader.State;
        }

        using var resumed = Make(shuffle: true, dropLast);
        resumed.LoadState(state!);
        Assert.Equal(state, resumed.State);
        Assert.Equal(rest, Epoch(resumed));
        Assert.Equal(Epoch(loader), Epoch(resumed));
        Assert.Equal(new DataLoaderState(3, 0, 3, 2, 0), resumed.State);
    }

    [Fact]
    public void State_OutsideALoop_IsTheBeginningOfTheNextEpoch()
    {
        using var loader = Make(shuffle: true);
        Assert.Equal((0, 0), (loader.State.Epoch, loader.State.Batches));
        foreach (var _ in loader)
            break;
        Assert.Equal((1, 0), (loader.State.Epoch, loader.State.Batches));
        Epoch(loader);
        Assert.Equal((2, 0), (loader.State.Epoch, loader.State.Batches));
        loader.SetEpoch(9);
        Assert.Equal((9, 0), (loader.State.Epoch, loader.State.Batches));
    }

    [Fact]
    public void LoadState_ThenSetEpoch_BeginsThatEpoch()
    {
        using var loader = Make(shuffle: false);
        loader.LoadState(loader.State with { Batches = 2 });
        loader.SetEpoch(0);
        Assert.Equal([0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20], Epoch(loader));
    }

    [Fact]
    public void LoadState_SkippedItems_AreNotRead()
    {
        var numbers = new Recording();
        using var loader = new FabricDataLoader<long, long[]>(new DataLoader<long, long[]>(numbers, 3, (items, _) => [.. items], false), Shard.Whole(0), null);
        loader.LoadState(loader.State with { Batches = 2 });
        Epoch(loader);
        Assert.Equal([6, 7, 8, 9], numbers.Read);
    }

    [Fact]
    public void LoadState_OtherBatchSize_IsTranslatedOrRepeatsABatch()
    {
        using var loader = Make(shuffle: true);
        var state = loader.State;
        loader.LoadState(state with { Batches = 1, BatchSize = 12, Ranks = 1 });
        Assert.Equal(state with { Batches = 2 }, loader.State);
        loader.LoadState(state with { Batches = 1, BatchSize = 11, Ranks = 1 });
        Assert.Equal(state with { Batches = 1 }, loader.State);
        loader.LoadState(state with { Batches = 1, BatchSize = 27, Ranks = 1 }); // the whole epoch of 21 items, the last batch not being full
        Assert.Equal(state with { Batches = 4 }, loader.State);
    }

    public static TheoryData<DataLoaderState, string> Impossible => new()
    {
        { new(-1, 0, 3, 2, 0), "no state" }, { new(0, -1, 3, 2, 0), "no state" }, { new(0, 0, 0, 2, 0), "no state" }, { new(0, 0, 3, 0, 0), "no state" },
        { new(0, 1, 3, 2, 5), "the seed 5" }, { new(0, 1, 3, 2, null), "the seed none" }, { new(0, 5, 3, 2, 0), "beyond the end" }, { new(0, long.MaxValue, int.MaxValue, int.MaxValue, 0), "beyond the end" },
    };

    [Theory]
    [MemberData(nameof(Impossible))]
    public void LoadState_ThatCannotBe_IsRefusedAndChangesNothing(DataLoaderState state, string expected)
    {
        using var loader = Make(shuffle: true);
        var before = loader.State;
        Assert.Contains(expected, Assert.Throws<ArgumentException>(() => loader.LoadState(state)).Message);
        Assert.Equal(before, loader.State);
    }

    private static FabricDataLoader<long, long[]> Make(bool shuffle, bool dropLast = false) =>
        new(new DataLoader<long, long[]>(new Recording(21), 3, (items, _) => [.. items], shuffle, drop_last: dropLast), new Shard(2, 0, 0), null);

    private static List<long> Epoch(FabricDataLoader<long, long[]> loader) => [.. loader.SelectMany(batch => batch)];

    private sealed class Recording(long count = 10) : utils.data.Dataset<long>
    {
        public List<long> Read { get; } = [];

        public override long Count => count;

        public override long GetTensor(long index)
        {
            Read.Add(index);
            return index;
        }
    }
}
