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
    /// <value>Default null: 1, or <see cref="BucketCapMb"/> where that is smaller.</value>
    public double? FirstBucketMb { get; init; }

    /// <summary>
    /// Full dotted names of parameters and buffers that data-parallel training leaves alone: each rank keeps its own values, and their gradients
    /// are not averaged.
    /// </summary>
    /// <value>Default: none.</value>
    public IReadOnlyCollection<string> ParametersToIgnore { get; init; } = [];

    /// <summary>The limit of each wait for other ranks in the averaging of gradients.</summary>
    /// <value>Default null: the process group's.</value>
    public TimeSpan? Timeout { get; init; }

    /// <summary>What averages the gradients of a bucket in place of the plain all-reduce; null for that. See <see cref="DataParallel.CommunicationHook"/>.</summary>
    public CommunicationHook? CommunicationHook { get; init; }

    /// <summary>
    /// A folder for a time line of the training: each rank writes a file that <c>fabric report</c> makes a page and a trace of. The last 256 steps are
    /// kept in full, sums of all. On every rank, or on none. <c>~</c> and <c>$VARIABLES</c> are replaced.
    /// </summary>
    /// <value>Default null: what the environment variable <c>FABRIC_TRACE</c> says, else nothing is recorded.</value>
    public string? Trace { get; init; }

    /// <summary>The folder that is chosen, by whichever way.</summary>
    internal string? TraceFolder => Tracing.TraceRecorder.FolderOf(Trace);

    /// <summary>Whether gradients are averaged while the backward pass runs, where that is possible.</summary>
    internal bool UsesGradientHooks { get; init; } = true;

    /// <summary>Whether gradients are handled as if they lay in the memory of a device, where they lie in the processor's.</summary>
    internal bool UsesDevicePath { get; init; }

    internal long BucketBytes => (long)(BucketCapMb * 1024 * 1024);

    internal long FirstBucketBytes => (long)((FirstBucketMb ?? Math.Min(1, BucketCapMb)) * 1024 * 1024);

    /// <summary>Reports all problems of the values at once.</summary>
    /// <exception cref="ArgumentException">Some value is out of range.</exception>
    internal void Validate()
    {
        var problems = new List<string>();
        if (!(BucketCapMb > 0) || double.IsInfinity(BucketCapMb))
            problems.Add($"BucketCapMb = {BucketCapMb} must be a positive number of MiB (default 25).");
        if (FirstBucketMb is { } first && (!(first > 0) || double.IsInfinity(first)))
            problems.Add($"FirstBucketMb = {FirstBucketMb} must be a positive number of MiB (default 1).");
        if (Timeout is { } timeout && timeout <= TimeSpan.Zero)
            problems.Add($"Timeout = {Timeout} must be positive (default: the process group's).");
        if (ParametersToIgnore is null || ParametersToIgnore.Any(string.IsNullOrWhiteSpace))
            problems.Add("ParametersToIgnore must hold full dotted names of parameters or buffers.");
        if (Trace is not null && string.IsNullOrWhiteSpace(Trace))
            problems.Add("Trace must name a folder (default null: no time line is recorded).");
        if (problems.Count > 0)
            throw new ArgumentException("DDP options: " + string.Join(" ", problems));
    }
}
