using FabricSharp.DataParallel;

namespace FabricSharp.Tests.DataParallel;

public class ParameterPartitionTests
{
    [Theory]
    [InlineData(2, new long[] { 3, 8, 1, 4 }, new[] { 1, 0, 1, 1 })] // 8 on rank 0; 4 + 3 + 1 on rank 1
    [InlineData(3, new long[] { 5, 5, 5, 5 }, new[] { 0, 1, 2, 0 })]
    [InlineData(4, new long[] { 7 }, new[] { 0 })]
    [InlineData(2, new long[] { }, new int[] { })]
    public void Add_LargestFirst_GoesToTheLeastLoadedAndTheLowestOfEquals(int ranks, long[] sizes, int[] owners) =>
        Assert.Equal(owners, new ParameterPartition(ranks).Add(sizes));

    [Fact]
    public void Add_SecondGroup_StartsFromTheLoadsOfTheFirst()
    {
        var partition = new ParameterPartition(2);
        partition.Add([10]);
        Assert.Equal([1, 1], partition.Add([3, 4]));
        Assert.Equal([10, 7], partition.Loads);
    }
}
