using CsCheck;
using FabricSharp.Collectives;
using FabricSharp.Interop.LibTorch;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.SharedMemory;

public class GradientPoolTests
{
    private const long Small = 64 * 1024, Large = 96 * 1024;
    private static readonly long[] Sizes = [Small, Small, Small, 0, Large];

    [Fact]
    public void TryAllocate_SizesThatAreNoGradients_GivesNothing() => WithPool(pool =>
    {
        Assert.Equal(IntPtr.Zero, pool.TryAllocate((nuint)Small + 4));
        Assert.Equal(IntPtr.Zero, pool.TryAllocate(0));
        Assert.False(pool.Covers(0));
        Assert.True(pool.Covers(Large));
    });

    [Fact]
    public void TryAllocate_TensorsThatAreNobodysGradient_LeavesAPlaceForEachOwner() => WithPool(pool =>
    {
        while (pool.TryAllocate((nuint)Small) != IntPtr.Zero)
        {
        }

        var taken = new[] { 0, 1, 2 }.Select(owner => pool.Take(owner, ScalarType.Float32)).ToList();
        Assert.Equal(3, taken.Select(Address).Distinct().Count());
    });

    [Fact]
    public void TryAdopt_PlaceOfAnotherOwnerOrNoPlace_IsRefused() => WithPool(pool =>
    {
        var place = pool.TryAllocate((nuint)Small);
        Assert.True(pool.TryAdopt(0, place));
        Assert.True(pool.TryAdopt(0, place));
        Assert.False(pool.TryAdopt(1, place));
        Assert.False(pool.TryAdopt(4, place)); // of another size
        Assert.False(pool.TryAdopt(1, place + 64));
    });

    [Fact]
    public void Release_LastTensor_MakesThePlaceFreeForAnother() => WithPool(pool =>
    {
        var place = pool.TryAllocate((nuint)Large);
        Assert.True(pool.TryAdopt(4, place));
        pool.Release(place);
        Assert.Equal(place, pool.TryAllocate((nuint)Large));
    });

    [Fact]
    public void Take_OwnerThatHasKeptAllItsPlaces_GetsOneOfThemAgain() => WithPool(pool =>
    {
        var kept = Enumerable.Range(0, 10).Select(_ => pool.Take(4, ScalarType.Float32)).ToList();
        Assert.InRange(kept.Select(Address).Distinct().Count(), 1, 2);
        kept.ForEach(tensor => tensor.Dispose());
        Assert.NotEqual(IntPtr.Zero, pool.TryAllocate((nuint)Large));
    });

    [Fact]
    public void Pool_AnySequenceOfCalls_AlwaysHasAPlaceForEachOwnerAndNeverGivesOneTwice() =>
        Gen.Int[0, 999].Array[1, 60].Sample(
            steps =>
            {
                WithPool(pool => Play(pool, steps));
                return true;
            },
            iter: 60);

    [Fact]
    public void Dispose_WithTensorsAlive_KeepsTheirMemory() => GroupOfThreads.Run("shm", 2, group =>
    {
        using var channel = group.CreateGradientChannel("test", 8);
        var pool = channel.CreatePool([Small])!;
        var tensor = pool.Take(0, ScalarType.Float32);
        tensor.fill_(3);
        pool.Dispose();
        Assert.Equal(3 * Small / 4, tensor.sum().item<float>());
        Assert.Equal(IntPtr.Zero, pool.TryAllocate((nuint)Small));
        tensor.Dispose();
        group.Barrier().Wait();
    });

    [Fact]
    public void ReduceInPlace_OtherPlacesOnEachRank_AveragesThem() => GroupOfThreads.Run("shm", 3, group =>
    {
        using var channel = group.CreateGradientChannel("test", 8);
        using var pool = channel.CreatePool(Sizes)!;
        var others = Enumerable.Range(0, group.Rank).Select(owner => pool.Take(owner, ScalarType.Float32)).ToList(); // so that places differ
        using var gradient = pool.Take(2, ScalarType.Float32);
        gradient.fill_(3 * (group.Rank + 1));
        others.ForEach(other => other.fill_(7));
        channel.ReduceInPlace(pool, 2, Address(gradient), gradient.numel(), ScalarType.Float32, 1.0 / 3).Wait();
        Assert.Equal(6, gradient.min().item<float>());
        Assert.Equal(6, gradient.max().item<float>());
        Assert.All(others, other => Assert.Equal(7 * Small / 4, other.sum().item<float>()));
        group.Barrier().Wait();
        others.ForEach(other => other.Dispose());
    });

    /// <summary>Owners get gradients by allocation or by asking, keep or drop them; other tensors come and go.</summary>
    private static void Play(GradientPool pool, int[] steps)
    {
        var alive = new List<(IntPtr Data, int Owner, Action Release)>();
        foreach (var step in steps)
        {
            var owner = new[] { 0, 1, 2, 4 }[step % 4];
            switch (step / 4 % 4)
            {
                case 0 when pool.TryAllocate((nuint)Sizes[owner]) is var given && given != IntPtr.Zero:
                    Assert.DoesNotContain(alive, place => place.Data == given);
                    alive.Add((given, pool.TryAdopt(owner, given) ? owner : -1, () => pool.Release(given)));
                    break;
                case 1 when pool.TryAllocate((nuint)Sizes[owner]) is var given && given != IntPtr.Zero:
                    alive.Add((given, -1, () => pool.Release(given)));
                    break;
                case 2:
                    var tensor = pool.Take(owner, ScalarType.Float32).DetachFromDisposeScope();
                    var taken = Address(tensor);
                    Assert.DoesNotContain(alive, place => place.Data == taken && place.Owner != owner);
                    alive.Add((taken, owner, tensor.Dispose));
                    break;
                case 3 when alive.Count > 0:
                    var index = step % alive.Count;
                    alive[index].Release();
                    alive.RemoveAt(index);
                    break;
            }
        }

        alive.ForEach(place => place.Release());
    }

    private static void WithPool(Action<GradientPool> body) => GroupOfThreads.Run("shm", 1, group =>
    {
        using var channel = group.CreateGradientChannel("test", 8);
        using var pool = channel.CreatePool(Sizes)!;
        body(pool);
    });

    private static IntPtr Address(Tensor tensor) => TensorMemory.PointerOf(tensor);
}
