using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Testing;

/// <summary>The communication of a gradient reducer, told of before it happens. Memory is the inner channel's own.</summary>
internal sealed class InterceptedGradientChannel(GradientChannel inner, Action<GroupCall> before) : GradientChannel
{
    public override bool NeedsTensors => inner.NeedsTensors;

    public override GradientBuffer Allocate(long bytes) => inner.Allocate(bytes);

    public override Work Reduce(GradientBuffer buffer, long byteOffset, long elementCount, ScalarType type, double scale)
    {
        before(ReduceOf(elementCount, type));
        return inner.Reduce(buffer, byteOffset, elementCount, type, scale);
    }

    public override GradientPool? CreatePool(IReadOnlyList<long> bytes) => inner.CreatePool(bytes);

    public override Work ReduceInPlace(GradientPool pool, int owner, IntPtr data, long elementCount, ScalarType type, double scale)
    {
        before(ReduceOf(elementCount, type));
        return inner.ReduceInPlace(pool, owner, data, elementCount, type, scale);
    }

    public override void Progress() => inner.Progress();

    public override void Exchange(ReadOnlySpan<byte> mine, Span<byte> all, TimeSpan? timeout = null)
    {
        before(new GroupCall(0, GroupOperation.GradientExchange) { Type = ScalarType.Byte, Elements = mine.Length });
        inner.Exchange(mine, all, timeout);
    }

    public override void Abort(string reason) => inner.Abort(reason);

    public override void Dispose() => inner.Dispose();

    private static GroupCall ReduceOf(long elementCount, ScalarType type) =>
        new(0, GroupOperation.GradientReduce) { Type = type, Elements = elementCount, Reduction = ReduceOp.Average };
}
