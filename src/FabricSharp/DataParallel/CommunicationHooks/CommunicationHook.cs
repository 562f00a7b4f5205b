using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// How the gradients of a bucket are averaged, in place of the plain all-reduce: compressed, for instance. Runs after the backward pass, bucket by
/// bucket, for the buckets that some rank used; communication therefore does not overlap with the backward pass, as it does without a hook. Follows PyTorch's DDP communication hooks.
/// </summary>
public abstract class CommunicationHook
{
    /// <summary>The name in logging data and messages, the same on every rank.</summary>
    public abstract string Name { get; }

    /// <summary>The plain all-reduce: each rank's gradient times 1/N, then the sum.</summary>
    public static CommunicationHook AllReduce => new AllReduceHook();

    /// <summary>No communication: every rank keeps its own gradients. Only for measuring what communication costs.</summary>
    public static CommunicationHook None => FromFunction("none", bucket => bucket.Buffer);

    /// <summary>The averaging in float16: cast, times 1/N, sum, cast back. Half the bytes of float32; values beyond ±65 504 overflow.</summary>
    /// <param name="inner">What averages the float16 gradients. <value>Default <see cref="AllReduce"/>.</value></param>
    public static CommunicationHook Float16(CommunicationHook? inner = null) => new CastHook("fp16_compress", ScalarType.Float16, inner ?? AllReduce);

    /// <summary>The averaging in bfloat16: cast, times 1/N, sum, cast back. Half the bytes of float32, its range, 8 bits of precision.</summary>
    /// <param name="inner">What averages the bfloat16 gradients. <value>Default <see cref="AllReduce"/>.</value></param>
    public static CommunicationHook BFloat16(CommunicationHook? inner = null) => new CastHook("bf16_compress", ScalarType.BFloat16, inner ?? AllReduce);

    /// <summary>A hook of your own, without a class. See <see cref="Reduce"/> for what the function has to do.</summary>
    /// <param name="name">The same on every rank.</param>
    /// <param name="reduce">Gets a bucket; returns the averaged gradients.</param>
    public static CommunicationHook FromFunction(string name, Func<CommunicationBucket, Tensor> reduce)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(reduce);
        return new FunctionHook(name, reduce);
    }

    /// <summary>Averages the bucket over the ranks. Called with gradients disabled. Collective.</summary>
    /// <returns>A tensor of the buffer's element count and data type; the buffer itself, when it was changed in place.</returns>
    public abstract Tensor Reduce(in CommunicationBucket bucket);

    /// <summary>
    /// Gives the hook that one model uses, once per model and rank. A hook that keeps something from step to step returns a new one with the same settings, so
    /// that models, and ranks that are threads, do not share it. Local. <value>Default: this object.</value>
    /// </summary>
    public virtual CommunicationHook ForModel() => this;

    private sealed class FunctionHook(string name, Func<CommunicationBucket, Tensor> reduce) : CommunicationHook
    {
        public override string Name => name;

        public override Tensor Reduce(in CommunicationBucket bucket) => reduce(bucket);
    }
}
