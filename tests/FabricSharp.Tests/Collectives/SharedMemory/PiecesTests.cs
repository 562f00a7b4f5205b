using CsCheck;
using FabricSharp.Collectives;
using FabricSharp.Collectives.SharedMemory;
using FabricSharp.Tests.Collectives.Cases;

namespace FabricSharp.Tests.Collectives.SharedMemory;

public sealed class PiecesTests
{
    /// <summary>Also counts that no 32-bit number holds.</summary>
    [Fact]
    public void At_AllPieces_CoverEachElementOnce() => Gen.Select(Gen.OneOf(Gen.Long[0, 1000], Gen.Long[1L << 31, 1L << 34]), Gen.Long[1, 1000]).Sample(
        (elements, divisor) =>
        {
            var perPiece = Math.Max(1, elements / divisor);
            var count = Pieces.Count(elements, perPiece);
            var next = 0L;
            for (var i = 0L; i < count; i++)
            {
                var (begin, length) = Pieces.At(i, elements, perPiece);
                Assert.Equal(next, begin);
                Assert.InRange(length, Math.Min(1, elements), perPiece);
                next += length;
            }

            Assert.Equal(elements, next);
        },
        iter: 200, threads: 1);

    [Theory]
    [InlineData(2, 256)]
    [InlineData(3, 64)]
    public void Group_WithTinyPieces_MovesTheSameNumbers(int ranks, int stagingBytes)
    {
        using var store = new HashStore();
        RankThreads.Run(ranks, rank =>
        {
            using var group = SharedMemoryProcessGroup.Join(store, rank, ranks, GroupOfThreads.Limit, stagingBytes);
            CollectiveCases.All["every operation, under way together"](group);
        });
    }
}
