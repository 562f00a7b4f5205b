using System.Reflection;
using FabricSharp.Collectives;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// Batch normalisation over the batches of all ranks, as PyTorch's SyncBatchNorm: with small batches per rank it normalises as one process with the
/// whole batch would. One small all-gather in the forward pass and one small all-reduce in the backward pass; ranks may have batches of different
/// sizes, or none. Parameters, buffers and their names are those of <c>BatchNorm1d/2d/3d</c>, so states are interchangeable.
/// </summary>
/// <remarks>
/// In training, forward and backward are collective: every rank calls them equally often and in the same order. In evaluation nothing is exchanged.
/// Gradients of <c>weight</c> and <c>bias</c> are this rank's share; data-parallel training averages them like any other. A gradient of a gradient is not
/// supported.
/// </remarks>
public sealed class SyncBatchNorm : NormBase
{
    private static readonly Type Hookable = typeof(nn.Module<Tensor, Tensor>).BaseType!;

    private readonly ProcessGroup _group;

    /// <summary>The dimensions that the input may have; empty: any from 2.</summary>
    private readonly int[] _dimensions = [];

    /// <summary>What this one replaced. It shares parameters and buffers, which its finaliser would free; in an array, so that it is no sub-module.</summary>
    private readonly BatchNorm[] _original = [];

    /// <summary>Makes the module. Local; every rank makes it alike.</summary>
    /// <param name="num_features">Number of channels.</param>
    /// <param name="group">The ranks.</param>
    /// <param name="eps">Added to the variance. <value>Default 1e-5.</value></param>
    /// <param name="momentum">Weight of a new batch in the running statistics; null: all batches weigh the same. <value>Default 0.1.</value></param>
    /// <param name="affine">Whether there are a weight and a bias. <value>Default true.</value></param>
    /// <param name="track_running_stats">Whether statistics are kept for evaluation. <value>Default true.</value></param>
    /// <param name="device">Of parameters and buffers.</param>
    /// <param name="dtype">Of parameters and buffers.</param>
    public SyncBatchNorm(
        long num_features,
        ProcessGroup group,
        double eps = 1e-5,
        double? momentum = 0.1,
        bool affine = true,
        bool track_running_stats = true,
        Device? device = null,
        ScalarType? dtype = null)
        : base(num_features, eps, momentum, affine, track_running_stats, device, dtype, nameof(SyncBatchNorm))
    {
        ArgumentNullException.ThrowIfNull(group);
        _group = group;
    }

    /// <summary>Takes the place of <paramref name="original"/>: same parameters, buffers, mode and hooks.</summary>
    internal SyncBatchNorm(BatchNorm original, ProcessGroup group)
        : this(original.num_features, group, original.eps, original.momentum, original.affine, original.track_running_stats)
    {
        _original = [original];
        _dimensions = original switch { BatchNorm1d => [2, 3], BatchNorm2d => [4], _ => [5] };
        if (original.affine)
            (weight, bias) = (original.weight, original.bias);
        (running_mean, running_var, num_batches_tracked) = (original.running_mean, original.running_var, original.num_batches_tracked);
        foreach (var field in Hookable.GetFields(BindingFlags.Instance | BindingFlags.NonPublic).Where(field => field.Name.EndsWith("_hooks", StringComparison.Ordinal)))
            field.SetValue(this, field.GetValue(original));
        train(original.training);
    }

    /// <summary>
    /// Replaces each <c>BatchNorm1d</c>, <c>BatchNorm2d</c> and <c>BatchNorm3d</c> inside <paramref name="module"/> by a <see cref="SyncBatchNorm"/> with the
    /// same parameter and buffer objects: names of the state do not change, and optimizers made before stay valid. Local; to be called on every rank, before
    /// <c>Setup</c>.
    /// </summary>
    /// <remarks>
    /// Found are modules in fields, in arrays, lists and dictionaries that fields hold, and in Sequential, ModuleList and ModuleDict. Each such place must be able to hold
    /// another type: declare fields as <c>Module&lt;Tensor, Tensor&gt;</c>, not as <c>BatchNorm2d</c>.
    /// </remarks>
    /// <param name="module">A model; it may be a batch normalisation itself.</param>
    /// <param name="group">The ranks.</param>
    /// <returns><paramref name="module"/> itself, or its replacement where it is a batch normalisation itself.</returns>
    /// <exception cref="ArgumentException">A place cannot hold the replacement; the message names all of them, and nothing was changed.</exception>
    public static T Convert<T>(T module, ProcessGroup group)
        where T : nn.Module
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(group);
        if (module is IFabricModule)
            throw new ArgumentException("Convert the batch normalisation before `Setup`: this module was set up already.", nameof(module));
        return (T)new BatchNormReplacement(group).Apply(module, typeof(T));
    }

    /// <summary>Normalises each channel. Collective in training.</summary>
    /// <param name="input">(batch, channels, …), same channels on every rank; the batch may differ, and be empty where others have values.</param>
    /// <returns>A new tensor of the same shape and type.</returns>
    /// <exception cref="ArgumentException">Wrong dimensions, or at most one value per channel over all ranks.</exception>
    /// <exception cref="DistributedException">Another rank failed, diverged or did not come in time.</exception>
    public override Tensor forward(Tensor input)
    {
        ValidateInputDimensions(input);
        if (!training)
            return nn.functional.batch_norm(input, running_mean, running_var, weight, bias, training: running_mean is null, momentum: 0, eps: eps);
        GuardedBackward.BeforeForward(_group);
        using var scope = NewDisposeScope();
        var (mean, variance, count) = Statistics(input);
        if (!is_grad_enabled())
            return NormalizationFunction.Normalize(input, weight, bias, mean, variance, eps).MoveToOuterDisposeScope();
        var call = new NormalizationFunction.Call(_group, count, eps, bias?.dtype, [input.shape, weight?.shape, bias?.shape, null, null, null]);
        return NormalizationFunction.apply(input, weight!, bias!, mean, variance, call).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void ValidateInputDimensions(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        var dimensions = (int)input.dim();
        if (_dimensions.Length > 0 ? !_dimensions.Contains(dimensions) : dimensions < 2)
            throw new ArgumentException($"expected {(_dimensions.Length > 0 ? string.Join("D or ", _dimensions) : "at least 2")}D input, but got {dimensions}D input.", nameof(input));
        if (input.shape[1] != num_features)
            throw new ArgumentException($"expected input with {num_features} channels in dimension 1, but got shape [{string.Join(", ", input.shape)}].", nameof(input));
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (disposing)
            foreach (var original in _original)
                original.Dispose();
    }

    private (Tensor Mean, Tensor Variance, long Count) Statistics(Tensor input)
    {
        using var gradientsOff = no_grad();
        var statistics = BatchStatistics.Over(_group, input);
        if (statistics.Count <= 1)
            throw new ArgumentException(
                $"Expected more than 1 value per channel when training, but all {_group.Size} ranks together have {statistics.Count}; the input of rank {_group.Rank} has the shape [{string.Join(", ", input.shape)}]. " +
                "Use larger batches, drop the last incomplete one, or call `eval()`.",
                nameof(input));
        if (track_running_stats)
            Track(statistics);
        var type = BatchStatistics.ComputeType(input.dtype);
        return (statistics.Mean.to(type), statistics.Variance().to(type), statistics.Count);
    }

    private void Track(BatchStatistics statistics)
    {
        num_batches_tracked!.add_(1);
        var factor = momentum ?? 1 / num_batches_tracked.to(ScalarType.Float64).item<double>();
        Follow(running_mean!, statistics.Mean, factor);
        Follow(running_var!, statistics.UnbiasedVariance(), factor);
    }

    private static void Follow(Tensor running, Tensor batch, double factor)
    {
        using TorchSharp.Scalar old = 1 - factor, fresh = factor; // held: TorchSharp lets the finaliser free a number that it made itself during the call
        running.mul_(old).add_(batch.to(running.dtype), alpha: fresh);
    }
}
