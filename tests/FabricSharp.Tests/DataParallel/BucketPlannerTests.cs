using CsCheck;
using FabricSharp.DataParallel;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

public class BucketPlannerTests
{
    private const long MiB = 1024 * 1024;

    private static readonly Gen<(BucketItem[] Items, long[] Limits)> Plans = Gen.Select(
        Gen.Select(Gen.Long[0, 3000], Gen.Bool.Select(b => b ? ScalarType.Float32 : ScalarType.BFloat16), Gen.Bool.Select(b => b ? DeviceType.CPU : DeviceType.CUDA), Gen.Int[0, 1]).Array[0, 40],
        Gen.Long[1, 4000].Array[1, 3],
        (parameters, limits) => (parameters.Select((p, i) => new BucketItem(i, p.Item1, p.Item2, p.Item3, p.Item4)).ToArray(), limits));

    /// <summary>Eight Linear(256, 256): weight and bias of each, float32.</summary>
    private static BucketItem[] EightLinears =>
        [.. Enumerable.Range(0, 16).Select(i => new BucketItem(i, i % 2 == 0 ? 256 * 256 * 4 : 256 * 4, ScalarType.Float32, DeviceType.CPU, -1))];

    [Fact]
    public void Assign_RegistrationOrderWithDefaultCaps_GivesPyTorchsBuckets() =>
        Assert.Equal([1_053_696, 1_051_648], Sizes(BucketPlanner.Assign(EightLinears, [MiB, 25 * MiB]).AsEnumerable().Reverse()));

    [Fact]
    public void Assign_ArrivalOrder_GivesPyTorchsRebuiltBuckets() => // bias before weight, last layer first
        Assert.Equal([1_052_672, 1_052_672], Sizes(BucketPlanner.Assign([.. EightLinears.Reverse()], [MiB, 25 * MiB])));

    [Fact]
    public void Assign_SmallExplicitCap_GivesPyTorchsBuckets() =>
        Assert.Equal([1_024, 526_336, 526_336, 526_336, 525_312], Sizes(BucketPlanner.Assign(EightLinears, [(long)(0.3 * MiB)]).AsEnumerable().Reverse()));

    [Fact]
    public void Assign_OneHugeLimit_IsOneBucket() => Assert.Equal([2_105_344], Sizes(BucketPlanner.Assign(EightLinears, [long.MaxValue])));

    [Fact]
    public void Assign_Nothing_IsNoBucket() => Assert.Empty(BucketPlanner.Assign([], [1]));

    [Fact]
    public void Assign_ExactlyTheLimit_ClosesTheBucket() => Assert.Equal([[0, 1], [2]], BucketPlanner.Assign(Floats(4, 6, 8), [10]));

    [Fact]
    public void Assign_OneAboveTheCap_HasABucketOfItsOwnWhenItIsFirst() => Assert.Equal([[0], [1, 2]], BucketPlanner.Assign(Floats(100, 1, 1), [10]));

    [Fact]
    public void Assign_EmptyParameters_AreNotLost() => Assert.Equal([[0, 1]], BucketPlanner.Assign(Floats(0, 0), [10]));

    [Fact]
    public void Assign_TypesMixed_KeepsThemApartInOrderOfTheirFirst()
    {
        BucketItem[] items =
        [
            new(0, 4, ScalarType.Float64, DeviceType.CPU, -1),
            new(1, 4, ScalarType.Float32, DeviceType.CPU, -1),
            new(2, 4, ScalarType.Float64, DeviceType.CPU, -1),
            new(3, 8, ScalarType.Float32, DeviceType.CPU, -1),
            new(4, 1, ScalarType.Float64, DeviceType.CPU, -1),
        ];
        Assert.Equal([[0, 2], [1, 3], [4]], BucketPlanner.Assign(items, [8]));
    }

    [Fact]
    public void Assign_SeveralLimits_UsesEachOncePerTypeAndRepeatsTheLast() =>
        Assert.Equal([[0], [1, 2], [3, 4]], BucketPlanner.Assign(Floats(1, 1, 1, 1, 1), [1, 2]));

    [Fact]
    public void Assign_AnyItems_KeepsThePromises() => Plans.Sample(
        plan =>
        {
            var (items, limits) = plan;
            var buckets = BucketPlanner.Assign(items, limits);
            Assert.Equal(Enumerable.Range(0, items.Length), buckets.SelectMany(bucket => bucket).Order());
            Assert.Equal(buckets.OrderBy(bucket => bucket[0]), buckets);
            var closed = new Dictionary<(ScalarType, DeviceType, int), int>();
            foreach (var bucket in buckets)
            {
                Assert.Equal(bucket.Order(), bucket);
                var kind = KindOf(items[bucket[0]]);
                Assert.All(bucket, i => Assert.Equal(kind, KindOf(items[i])));
                var limit = limits[Math.Min(closed.GetValueOrDefault(kind), limits.Length - 1)];
                Assert.True(bucket[..^1].Sum(i => items[i].Bytes) < limit, "a bucket went on after it had reached its limit");
                var isLastOfItsKind = bucket[^1] == items.Last(item => KindOf(item) == kind).Index;
                Assert.True(isLastOfItsKind || bucket.Sum(i => items[i].Bytes) >= limit, "a bucket was closed before its limit");
                closed[kind] = closed.GetValueOrDefault(kind) + 1;
            }
        },
        iter: 500, threads: 1);

    private static (ScalarType, DeviceType, int) KindOf(BucketItem item) => (item.Type, item.Device, item.DeviceIndex);

    private static BucketItem[] Floats(params long[] bytes) => [.. bytes.Select((b, i) => new BucketItem(i, b, ScalarType.Float32, DeviceType.CPU, -1))];

    private static IEnumerable<long> Sizes(IEnumerable<int[]> buckets) => buckets.Select(bucket => bucket.Sum(i => EightLinears[i].Bytes));
}
