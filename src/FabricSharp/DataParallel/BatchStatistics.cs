using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>Mean and variance of each channel over the batches of all ranks; the same bits on every rank.</summary>
/// <param name="Mean">(channels), float64.</param>
/// <param name="SquaredDeviations">The sum of the squared distances from the mean; (channels), float64.</param>
/// <param name="Count">The number of values per channel.</param>
internal sealed record BatchStatistics(Tensor Mean, Tensor SquaredDeviations, long Count)
{
    /// <summary>Collective: one all-gather of 2 · channels + 1 numbers. To be called where gradients are off.</summary>
    /// <param name="group">The ranks.</param>
    /// <param name="input">(batch, channels, …); the batch may differ by rank and be empty on some.</param>
    public static BatchStatistics Over(ProcessGroup group, Tensor input)
    {
        var channels = input.shape[1];
        using var own = Own(input, channels);
        using var all = empty([group.Size, own.numel()], ScalarType.Float64, input.device);
        group.AllGather(all, own).Wait();
        return Combine(all, channels);
    }

    /// <summary>The element type in which a batch of <paramref name="input"/> is computed.</summary>
    public static ScalarType ComputeType(ScalarType input) => input == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;

    /// <summary>All dimensions but the channels'.</summary>
    public static long[] ReducedDimensions(Tensor input) => [.. Enumerable.Range(0, (int)input.dim()).Where(dimension => dimension != 1).Select(dimension => (long)dimension)];

    /// <summary>Variance of the population.</summary>
    public Tensor Variance() => SquaredDeviations / (double)Count;

    /// <summary>Variance as estimated from a sample.</summary>
    public Tensor UnbiasedVariance() => SquaredDeviations / (double)(Count - 1);

    private static Tensor Own(Tensor input, long channels)
    {
        using var scope = NewDisposeScope();
        var count = channels == 0 ? 0 : input.numel() / channels;
        if (count == 0)
            return zeros(2 * channels + 1, ScalarType.Float64, input.device).MoveToOuterDisposeScope();
        var (variance, mean) = input.to(ComputeType(input.dtype)).var_mean(ReducedDimensions(input), unbiased: false);
        var number = tensor(new[] { (double)count }, ScalarType.Float64, input.device);
        return cat([mean.to(ScalarType.Float64), variance.to(ScalarType.Float64) * number, number]).MoveToOuterDisposeScope();
    }

    /// <summary>The pairwise formula of Chan, Golub and LeVeque for any number of parts: it subtracts no large numbers from each other.</summary>
    private static BatchStatistics Combine(Tensor all, long channels)
    {
        using var scope = NewDisposeScope();
        var means = all.narrow(1, 0, channels);
        var deviations = all.narrow(1, channels, channels);
        var counts = all.narrow(1, 2 * channels, 1);
        var total = counts.sum();
        var mean = (means * counts).sum(dim: 0) / total;
        var deviation = deviations.sum(dim: 0) + ((means - mean).square() * counts).sum(dim: 0);
        return new BatchStatistics(mean.MoveToOuterDisposeScope(), deviation.MoveToOuterDisposeScope(), (long)total.item<double>());
    }
}
