using FabricSharp.Collectives;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Gpu;

/// <summary>Every operation of the nccl back end on the GPUs that are there.</summary>
public class NcclOnGpuTests
{
    private static readonly ScalarType[] Types = [ScalarType.Float32, ScalarType.Float64, ScalarType.Float16, ScalarType.BFloat16, ScalarType.Int64, ScalarType.Int32, ScalarType.Int8, ScalarType.Byte];

    public static TheoryData<int> Sizes => [1, 2, 4];

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Reductions_EachTypeAndOperation_GiveTheNumbers(int ranks)
    {
        Gpus.Require(ranks);
        Gpus.Run(ranks, (group, device) =>
        {
            foreach (var type in Types)
            {
                var real = type is ScalarType.Float32 or ScalarType.Float64 or ScalarType.Float16 or ScalarType.BFloat16;
                var sum = ranks * (ranks + 1) / 2;
                (ReduceOp Op, double Expected)[] cases =
                [
                    (ReduceOp.Sum, sum), (ReduceOp.Product, Enumerable.Range(1, ranks).Aggregate(1, (x, y) => x * y)), (ReduceOp.Max, ranks), (ReduceOp.Min, 1),
                    .. real ? new[] { (ReduceOp.Average, (double)sum / ranks), (ReduceOp.PreMulSum(0.5), sum / 2.0) } : [],
                ];
                foreach (var (op, expected) in cases)
                    Require(Reduced(group, device, type, op), expected, $"{op} of {type}");
            }

            var any = tensor(new[] { group.Rank == 0, false }, device: device);
            group.AllReduce(any).Wait();
            Assert.Equal([true, false], any.cpu().data<bool>().ToArray());
        });
    }

    [Theory]
    [MemberData(nameof(Sizes))]
    public void Movements_EachOperation_BringEveryPart(int ranks)
    {
        Gpus.Require(ranks);
        Gpus.Run(ranks, (group, device) =>
        {
            Tensor Mine(double offset = 0) => full(1000, group.Rank + offset, ScalarType.Float32, device);
            var (all, last) = (zeros([ranks, 1000], ScalarType.Float32, device), ranks - 1);
            var expected = arange(ranks, ScalarType.Float32, device).unsqueeze(1).expand(ranks, 1000).contiguous();
            group.AllGather(all, Mine()).Wait();
            Assert.True(all.equal(expected).all().cpu().item<bool>());
            var sent = Mine();
            group.Broadcast(sent, last).Wait();
            Require(sent, last, "broadcast");
            var gathered = group.Rank == last ? zeros_like(all) : null;
            group.Gather(gathered, Mine(), last).Wait();
            Assert.True(gathered is null || gathered.eq(expected).all().cpu().item<bool>());
            var part = Mine(7);
            group.Scatter(part, group.Rank == last ? expected : null, last).Wait();
            Require(part, group.Rank, "scatter");
            group.ReduceScatter(part, expected).Wait();
            Require(part, ranks * group.Rank, "reduce-scatter");
            var exchanged = zeros_like(expected);
            group.AllToAll(exchanged, full([ranks, 1000], group.Rank, ScalarType.Float32, device)).Wait();
            Assert.True(exchanged.eq(expected).all().cpu().item<bool>());
            var one = Mine(1);
            group.Reduce(one, last).Wait();
            Require(one, group.Rank == last ? ranks * (ranks + 1) / 2 : group.Rank + 1, "reduce");
            Assert.Equal(Enumerable.Range(0, ranks), group.AllGatherObject(group.Rank));
            group.MonitoredBarrier();
            group.Barrier().Wait();
        });
    }

    [Fact]
    public void Messages_BetweenTwoGpus_ArriveByTag()
    {
        Gpus.Require(2);
        Gpus.Run(2, (group, device) =>
        {
            using var first = full(1000, 1, ScalarType.Float32, device);
            using var second = full(1000, 2, ScalarType.Float32, device);
            if (group.Rank == 0)
            {
                var works = new[] { group.Send(first, 1, tag: 1), group.Send(second, 1, tag: 2) };
                Array.ForEach(works, work => work.Wait());
                return;
            }

            group.Recv(first, 0, tag: 2).Wait();
            group.Recv(second, 0, tag: 1).Wait();
            Require(first, 2, "tag 2");
            Require(second, 1, "tag 1");
        });
    }

    /// <summary>A kernel that takes a while writes the tensor; the operation must not begin before, nor the next kernel before its end.</summary>
    [Fact]
    public void AllReduce_BetweenLongKernels_KeepsTheirOrder()
    {
        Gpus.Require(1);
        Gpus.Run(1, (group, device) =>
        {
            var size = Gpus.AreSimulated ? 64 : 4096;
            var x = ones([size, size], ScalarType.Float32, device);
            for (var i = 0; i < 10; i++)
            {
                var y = x.matmul(x) / size;
                group.AllReduce(y, ReduceOp.PreMulSum(2)).Wait();
                x = y / 2;
            }

            Require(x, 1, "ten products");
        });
    }

    [Fact]
    public void AllReduce_TensorOnTheProcessor_IsRefused()
    {
        Gpus.Require(1);
        Assert.SkipWhen(Gpus.AreSimulated, "The simulated NCCL takes CPU tensors.");
        Gpus.Run(1, (group, device) => Assert.Contains("takes tensors on CUDA", Assert.Throws<ArgumentException>(() => group.AllReduce(ones(3, device: CPU))).Message));
    }

    private static Tensor Reduced(ProcessGroup group, Device device, ScalarType type, ReduceOp op)
    {
        var t = full(1000, group.Rank + 1, type, device);
        group.AllReduce(t, op).Wait();
        return t;
    }

    private static void Require(Tensor found, double expected, string what)
    {
        using var here = found.to(ScalarType.Float64).cpu();
        var wrong = (here - expected).abs().max().ToDouble();
        Assert.True(wrong <= 0.01 * Math.Max(1, Math.Abs(expected)), $"{what}: {expected} expected, {here.flatten()[0].ToDouble()} found.");
    }
}
