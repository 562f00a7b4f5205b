using static TorchSharp.torch;

namespace FabricSharp.Collectives.Devices;

/// <summary>Reductions as the group's own, in its order of operations; control messages through a channel of the group.</summary>
internal sealed class GroupGradientTransport(ProcessGroup group, GradientChannel control) : DeviceGradientTransport
{
    public override int Size => group.Size;

    public override TimeSpan Timeout => group.Timeout;

    public override Work Reduce(Tensor part, double scale, string text) => group.AllReduce(part, ReduceOp.PreMulSum(scale));

    public override void Exchange(ReadOnlySpan<byte> mine, Span<byte> all, string text, TimeSpan timeout) => control.Exchange(mine, all, timeout);

    public override void Abort(string reason) => control.Abort(reason);

    public override void Dispose() => control.Dispose();
}
