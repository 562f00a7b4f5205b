using FabricSharp.Collectives;
using FabricSharp.Tests.Collectives.Cases;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives;

/// <summary>What every back end promises, with ranks as threads. Numbers and shapes.</summary>
public abstract class ProcessGroupConformance
{
    private static readonly int[] Sizes = [0, 1, 7, 1000, 70_000, 300_000];

    protected abstract string Backend { get; }

    public static TheoryData<ScalarType, int> TypesAndRanks => [.. from type in ReductionReference.Types from ranks in new[] { 1, 2, 3, 4 } select (type, ranks)];

    public static TheoryData<ScalarType> CopiedTypes => [.. ReductionReference.Types, ScalarType.Bool, ScalarType.ComplexFloat32, ScalarType.ComplexFloat64];

    [Theory]
    [MemberData(nameof(TypesAndRanks))]
    public void AllReduce_EveryOperationAndSize_EqualsTheReference(ScalarType type, int ranks)
    {
        using var scope = NewDisposeScope();
        var cases = (from op in ReductionReference.OperationsOf(type, Backend)
                     from size in Sizes
                     let inputs = Enumerable.Range(0, ranks).Select(rank => ReductionReference.Input(type, size, rank)).ToArray()
                     select (op, size, inputs, expected: ReductionReference.Bits(ReductionReference.Result(op, inputs)))).ToList();
        Run(ranks, group =>
        {
            foreach (var (op, size, inputs, expected) in cases)
            {
                using var mine = inputs[group.Rank].clone();
                group.AllReduce(mine, op).Wait();
                Assert.True(expected.AsSpan().SequenceEqual(mine.bytes), $"{op} of {size} × {type} over {ranks} ranks differs on rank {group.Rank}.");
            }
        });
    }

    [Theory]
    [InlineData(ScalarType.Float32)]
    [InlineData(ScalarType.BFloat16)]
    public void AllReduce_SumOfAnyNumbers_IsInRankOrderAndTheSameInEachRun(ScalarType type)
    {
        using var scope = NewDisposeScope();
        var inputs = Enumerable.Range(0, 3).Select(rank => (randn(50_000, generator: new Generator((ulong)rank)) * 1000).to(type)).ToArray();
        var wide = inputs.Select(input => input.to(ScalarType.Float32)).ToArray();
        var expected = ReductionReference.Bits(((wide[0] + wide[1]) + wide[2]).to(type));
        for (var run = 0; run < 3; run++)
            Run(3, group =>
            {
                using var mine = inputs[group.Rank].clone();
                group.AllReduce(mine).Wait();
                Assert.True(expected.AsSpan().SequenceEqual(mine.bytes));
            });
    }

    [Fact]
    public void AllReduce_NotANumberAndInfinities_Propagate() => Run(2, group =>
    {
        var mine = group.Rank == 0
            ? tensor(new[] { float.NaN, 1, float.PositiveInfinity, float.PositiveInfinity, 0f })
            : tensor(new[] { 1, float.NaN, float.NegativeInfinity, 1, -0f });
        float[] After(ReduceOp op)
        {
            using var copy = mine.clone();
            group.AllReduce(copy, op).Wait();
            return copy.data<float>().ToArray();
        }

        Assert.Equal([float.NaN, float.NaN, float.NaN, float.PositiveInfinity, 0], After(ReduceOp.Sum));
        Assert.Equal([float.NaN, float.NaN, float.NegativeInfinity, 1, 0], After(ReduceOp.Min));
        Assert.Equal([float.NaN, float.NaN, float.PositiveInfinity, float.PositiveInfinity, 0], After(ReduceOp.Max));
    });

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void AllReduce_Views_LeaveTheirNeighboursAlone(int ranks) => Run(ranks, group =>
    {
        var whole = arange(60, ScalarType.Float32).reshape(6, 10);
        group.AllReduce(whole.slice(0, 2, 4, 1)).Wait(); // contiguous, in the middle
        group.AllReduce(whole.slice(1, 3, 9, 2)).Wait(); // every second column
        group.AllReduce(whole.t().slice(0, 0, 1, 1)).Wait(); // first column
        var expected = arange(60, ScalarType.Float32).reshape(6, 10);
        expected.slice(0, 2, 4, 1).mul_(ranks);
        expected.slice(1, 3, 9, 2).mul_(ranks);
        expected.t().slice(0, 0, 1, 1).mul_(ranks);
        Assert.Equal(ReductionReference.Bits(expected), ReductionReference.Bits(whole));
    });

    [Fact]
    public void AllReduce_LargeTransposedTensor_KeepsItsStrides() => Run(2, group =>
    {
        var whole = arange(300 * 400, ScalarType.Float64).reshape(300, 400);
        var expected = whole.clone() * 2;
        var transposed = whole.t();
        group.AllReduce(transposed).Wait();
        Assert.Equal([1, 400], transposed.stride());
        Assert.True(expected.Equals(whole));
    });

    [Fact]
    public void AllReduce_ZeroDimensions_IsANumber() => Run(3, group =>
    {
        var number = tensor(group.Rank + 1.5);
        group.AllReduce(number).Wait();
        Assert.Equal(7.5, number.item<double>());
        Assert.Empty(number.shape);
    });

    [Fact]
    public void AllReduce_AParameter_IsChangedInPlace() => Run(2, group =>
    {
        var parameter = new TorchSharp.Modules.Parameter(ones(3), requires_grad: true);
        group.AllReduce(parameter).Wait();
        Assert.Equal(6, parameter.sum().item<float>());
        Assert.True(parameter.is_leaf);
    });

    [Theory]
    [InlineData(ScalarType.ComplexFloat32)]
    [InlineData(ScalarType.ComplexFloat64)]
    public void AllReduce_TypeWithoutArithmetic_IsRefusedHere(ScalarType type) => Run(1, group =>
    {
        var e = Assert.Throws<ArgumentException>(() => group.AllReduce(zeros(3, type)));
        Assert.Contains($"AllReduce(Sum) is not defined for {type} tensors", e.Message);
    });

    [Fact]
    public void AllReduce_OperationWithoutMeaning_IsRefusedAndTheGroupUsable() => Run(2, group =>
    {
        Assert.Contains("Average", Assert.Throws<ArgumentException>(() => group.AllReduce(zeros(3, ScalarType.Int32), ReduceOp.Average)).Message);
        Assert.Throws<ArgumentException>(() => group.AllReduce(zeros(3, ScalarType.Int32), ReduceOp.PreMulSum(2)));
        Assert.Throws<ArgumentException>(() => group.AllReduce(zeros(3), ReduceOp.BitwiseXor));
        Assert.Throws<ArgumentNullException>(() => group.AllReduce(null!));
        group.Barrier().Wait();
    });

    [Theory]
    [MemberData(nameof(CopiedTypes))]
    public void Broadcast_FromEachRoot_GivesItsTensor(ScalarType type) => Run(3, group =>
    {
        foreach (var size in new[] { 0, 1, 1000, 200_000 })
            for (var root = 0; root < 3; root++)
            {
                var mine = Numbers(size, group.Rank, type);
                group.Broadcast(mine, root).Wait();
                Assert.True(ReductionReference.Bits(mine).AsSpan().SequenceEqual(ReductionReference.Bits(Numbers(size, root, type))), $"{size} from {root}");
            }
    });

    [Fact]
    public void Broadcast_Views_KeepStridesAndNeighbours() => Run(2, group =>
    {
        var whole = full([4, 6], group.Rank, ScalarType.Int32);
        group.Broadcast(whole.slice(1, 1, 5, 2), 1).Wait();
        int[] row = group.Rank == 0 ? [0, 1, 0, 1, 0, 0] : [1, 1, 1, 1, 1, 1];
        Assert.Equal([.. row, .. row, .. row, .. row], whole.data<int>().ToArray());
    });

    [Theory]
    [InlineData(-1)]
    [InlineData(2)]
    public void Broadcast_RootThatIsNoRank_IsRefused(int root) => Run(2, group =>
    {
        Assert.Equal("root", Assert.Throws<ArgumentOutOfRangeException>(() => group.Broadcast(ones(1), root)).ParamName);
        group.Barrier().Wait();
    });

    [Theory]
    [MemberData(nameof(CopiedTypes))]
    public void AllGather_Always_StacksByRank(ScalarType type) => Run(3, group =>
    {
        foreach (var size in new[] { 0, 1, 1000, 100_000 })
        {
            var output = zeros([3, size], type);
            group.AllGather(output, Numbers(size, group.Rank, type)).Wait();
            var expected = stack(Enumerable.Range(0, 3).Select(rank => Numbers(size, rank, type)));
            Assert.True(ReductionReference.Bits(expected).AsSpan().SequenceEqual(ReductionReference.Bits(output)), $"{size} × {type}");
        }
    });

    [Fact]
    public void AllGather_InputThatIsNotContiguous_IsGatheredByIndex() => Run(2, group =>
    {
        var input = (arange(6, ScalarType.Float32).reshape(2, 3) + 10 * group.Rank).t();
        var output = zeros(2, 3, 2);
        group.AllGather(output, input).Wait();
        Assert.Equal([0, 3, 1, 4, 2, 5, 10, 13, 11, 14, 12, 15], output.data<float>().ToArray());
    });

    [Fact]
    public void AllGather_OutputThatDoesNotFit_IsRefused() => Run(2, group =>
    {
        foreach (var output in new[] { zeros(2, 4), zeros([2, 3], ScalarType.Int32), zeros(3, 2).t() })
            Assert.Contains("6 elements", Assert.Throws<ArgumentException>(() => group.AllGather(output, ones(3))).Message);
        group.Barrier().Wait();
    });

    [Fact]
    public void Barrier_Always_SeparatesPhases()
    {
        var arrived = 0;
        Run(4, group =>
        {
            for (var phase = 1; phase <= 50; phase++)
            {
                Interlocked.Increment(ref arrived);
                group.Barrier().Wait();
                Assert.Equal(4 * phase, Volatile.Read(ref arrived));
                group.Barrier().Wait();
            }
        });
    }

    [Fact]
    public void Group_Always_KnowsItsRanks() => Run(3, group =>
    {
        Assert.Equal((3, Backend, GroupOfThreads.Limit), (group.Size, group.Backend, group.Timeout));
        var ranks = zeros(3, ScalarType.Int64);
        group.AllGather(ranks, tensor(new[] { (long)group.Rank })).Wait();
        Assert.Equal([0, 1, 2], ranks.data<long>().ToArray());
    });

    /// <summary>0 to 6 over and over, plus the rank.</summary>
    private static Tensor Numbers(int size, int rank, ScalarType type)
    {
        var numbers = new long[size];
        for (var i = 0; i < size; i++)
            numbers[i] = i % 7 + rank;
        return tensor(numbers).to(type);
    }

    private void Run(int ranks, Action<ProcessGroup> body) => GroupOfThreads.Run(Backend, ranks, body);
}
