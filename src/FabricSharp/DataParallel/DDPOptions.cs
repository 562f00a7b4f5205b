namespace FabricSharp.DataParallel;

/// <summary>How gradients are averaged over the ranks. The same on every rank. Names and meanings follow PyTorch's DistributedDataParallel.</summary>
public sealed record DDPOptions
{
    /// <summary>
    /// Whether parameters may take no part in a step (conditional branches, experts, frozen heads), on some ranks or on all.
    /// Only gradients that some rank used are then sent; a parameter that no rank used keeps its <c>grad</c> as it was.
    /// </summary>
    /// <value>Default false: a parameter without a gradient is an <see cref="UnfinishedReductionException"/>.</value>
    public bool FindUnusedParameters { get; init; }

    /// <summary>
    /// Promises that the same parameters are used in every step: what the first step leaves unused is accepted, any change afterwards
    /// is an <see cref="UnfinishedReductionException"/>.
    /// </summary>
    /// <value>Default false.</value>
    public bool StaticGraph { get; init; }

    /// <summary>
    /// Whether each <c>grad</c> is a view of the memory that is communicated: one copy of the gradients instead of two.
    /// Not available where libtorch's entry points are missing; gradients are then copied.
    /// </summary>
    /// <value>Default true.</value>
    public bool GradientAsBucketView { get; init; } = true;

    /// <summary>Whether rank 0's buffers (running statistics and the like) are given to all ranks before each synchronising forward pass.</summary>
    /// <value>Default true.</value>
    public bool BroadcastBuffers { get; init; } = true;

    /// <summary>Gradients are sent in buckets of about this many MiB.</summary>
    /// <value>Default 25.</value>
    public double BucketCapMb { get; init; } = 25;

    /// <summary>Size of the bucket that is sent first, in MiB: small, so that communication starts early.</summary>
    /// <value>Default 1.</value>
    public double FirstBucketMb { get; init; } = 1;

    /// <summary>Reports all problems of the values at once.</summary>
    /// <exception cref="ArgumentException">Some value is out of range.</exception>
    internal void Validate()
    {
        var problems = new List<string>();
        if (!(BucketCapMb > 0) || double.IsInfinity(BucketCapMb))
            problems.Add($"BucketCapMb = {BucketCapMb} must be a positive number of MiB (default 25).");
        if (!(FirstBucketMb > 0) || double.IsInfinity(FirstBucketMb))
            problems.Add($"FirstBucketMb = {FirstBucketMb} must be a positive number of MiB (default 1).");
        if (problems.Count > 0)
            throw new ArgumentException("DDP options: " + string.Join(" ", problems));
    }
}
