using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FabricSharp.Collectives;
using FabricSharp.Collectives.Nccl;
using FabricSharp.Interop.Nccl;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.Nccl;

/// <summary>Layouts and numbers of nccl.h.</summary>
public class NcclTypesTests
{
    [Fact]
    public void Config_Always_HasTheLayoutOfNccl218()
    {
        Assert.Equal(48, Unsafe.SizeOf<NcclConfig>());
        (string, int)[] expected =
        [
            (nameof(NcclConfig.Bytes), 0), (nameof(NcclConfig.Magic), 8), (nameof(NcclConfig.Version), 12), (nameof(NcclConfig.Blocking), 16), (nameof(NcclConfig.CgaClusterSize), 20),
            (nameof(NcclConfig.MinCtas), 24), (nameof(NcclConfig.MaxCtas), 28), (nameof(NcclConfig.NetName), 32), (nameof(NcclConfig.SplitShare), 40), (nameof(NcclConfig.TrafficClass), 44),
        ];
        Assert.Equal(expected, expected.Select(field => (field.Item1, (int)Marshal.OffsetOf<NcclConfig>(field.Item1))));
    }

    [Fact]
    public void Config_NonBlocking_LeavesEverythingElseUndefined()
    {
        var config = NcclConfig.NonBlocking();
        Assert.Equal((48u, 0xcafebeefu, 21800u, 0), ((uint)config.Bytes, config.Magic, config.Version, config.Blocking));
        Assert.All(new[] { config.CgaClusterSize, config.MinCtas, config.MaxCtas, config.SplitShare, config.TrafficClass }, value => Assert.Equal(int.MinValue, value));
        Assert.Equal(IntPtr.Zero, config.NetName);
    }

    [Fact]
    public void UniqueId_Always_Is128Bytes()
    {
        Assert.Equal(128, Unsafe.SizeOf<NcclUniqueId>());
        var bytes = Enumerable.Range(0, 128).Select(i => (byte)(3 * i)).ToArray();
        Assert.Equal(bytes, NcclUniqueId.From(bytes).ToArray());
        Assert.Throws<ArgumentException>(() => NcclUniqueId.From(bytes.AsSpan(1)));
    }

    [Theory]
    [InlineData(ScalarType.Byte, 1)]
    [InlineData(ScalarType.Bool, 1)]
    [InlineData(ScalarType.Int8, 0)]
    [InlineData(ScalarType.Int32, 2)]
    [InlineData(ScalarType.Int64, 4)]
    [InlineData(ScalarType.Float16, 6)]
    [InlineData(ScalarType.Float32, 7)]
    [InlineData(ScalarType.Float64, 8)]
    [InlineData(ScalarType.BFloat16, 9)]
    public void TypeOf_Type_IsTheNumberOfNcclHeader(ScalarType type, int expected) => Assert.Equal(expected, (int)NcclMapping.TypeOf(type)!.Value);

    [Fact]
    public void ReductionOf_Operation_IsTheNumberOfNcclHeader()
    {
        ReduceOp[] operations = [ReduceOp.Sum, ReduceOp.Product, ReduceOp.Max, ReduceOp.Min, ReduceOp.Average];
        Assert.Equal([0, 1, 2, 3, 4], operations.Select(op => (int)NcclMapping.ReductionOf(op, ScalarType.Float32)!.Value));
        Assert.Equal([2, 3, 2, 3], new[] { ReduceOp.Sum, ReduceOp.Product, ReduceOp.BitwiseOr, ReduceOp.BitwiseAnd }.Select(op => (int)NcclMapping.ReductionOf(op, ScalarType.Bool)!.Value));
    }

    [Theory]
    [InlineData(ScalarType.Float32, 1 / 3.0)]
    [InlineData(ScalarType.Float64, 1 / 3.0)]
    [InlineData(ScalarType.Float16, 1 / 3.0)]
    [InlineData(ScalarType.BFloat16, 1 / 3.0)]
    [InlineData(ScalarType.BFloat16, 1.00390625)] // half way between two: to the even one
    public void Element_Number_HasTheBitsOfLibtorch(ScalarType type, double value)
    {
        using var number = tensor(new[] { value }).to(ScalarType.Float32).to(type == ScalarType.Float64 ? ScalarType.Float32 : type);
        using var exact = type == ScalarType.Float64 ? tensor(new[] { value }) : number.alias();
        Assert.Equal(exact.bytes.ToArray(), NcclMapping.Element(value, type));
    }
}
