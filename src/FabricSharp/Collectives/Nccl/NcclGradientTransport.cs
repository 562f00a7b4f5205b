using FabricSharp.Collectives.Devices;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Nccl;

/// <summary>A reducer's part of a group: reductions on a communicator of its own, control messages over the control connection.</summary>
internal sealed class NcclGradientTransport(NcclWorld world, NcclCommunicator communicator, int buckets, int control, NcclProcessGroup group) : DeviceGradientTransport
{
    public override int Size => world.Size;

    public override TimeSpan Timeout => world.Timeout;

    public override Work Reduce(Tensor part, double scale, string text) => group.AllReduceOn(communicator, buckets, text, part, ReduceOp.PreMulSum(scale));

    public override void Exchange(ReadOnlySpan<byte> mine, Span<byte> all, string text, TimeSpan timeout)
    {
        world.ThrowIfFailed();
        try
        {
            world.Line.Answer(control, world.Line.CallForAnswer(control, text, mine), text, timeout).CopyTo(all);
        }
        catch (DistributedException e)
        {
            throw world.Fail(e);
        }
    }

    public override void Abort(string reason) => group.Abort(reason);

    public override void Dispose() => communicator.Dispose();
}
