using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>x0·(1/N) + x1·(1/N) + …</summary>
internal sealed class AllReduceHook : CommunicationHook
{
    public override string Name => "allreduce";

    public override Tensor Reduce(in CommunicationBucket bucket)
    {
        bucket.Group.AllReduce(bucket.Buffer, ReduceOp.PreMulSum(1.0 / bucket.Group.Size)).Wait();
        return bucket.Buffer;
    }
}
