using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>Mean and variance of each channel over the batches of all ranks; the same bits on every rank.</summary>
/// <param name="Mean">(channels), float64.</param>
/// <param name="SquaredDeviations">The sum of the squared distances from the mean; (channels), float64.</param>
/// <param name="Count">The number of values per channel.</param>
internal sealed record BatchStatistics(Tensor Mean, Tensor SquaredDeviations, long Count)
{
    /// <summary>Elements of a part of the batch: 1 MiB of float32.</summary>
    private const long PartSize = 256 * 1024;

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

    /// <summary>Sums over all dimensions but the channels', part by part of the batch: what a part needs in between stays in the processor's cache.</summary>
    /// <param name="input">(batch, channels, …), not empty.</param>
    /// <param name="term">What to sum, of the input's shape, for samples from the first number, as many as the second.</param>
    /// <returns>(channels), float64.</returns>
    public static Tensor Sum(Tensor input, Func<long, long, Tensor> term)
    {
        var (batch, dimensions) = (input.shape[0], ReducedDimensions(input));
        var step = Math.Max(1, PartSize / Math.Max(1, input.numel() / Math.Max(1, batch)));
        var total = zeros(input.shape[1], ScalarType.Float64, input.device);
        for (var first = 0L; first < batch; first += step)
        {
            using var scope = NewDisposeScope();
            total.add_(term(first, Math.Min(step, batch - first)).sum(dimensions));
        }

        return total;
    }

    private static Tensor Own(Tensor input, long channels)
    {
        using var scope = NewDisposeScope();
        var count = channels == 0 ? 0 : input.numel() / channels;
        if (count == 0)
            return zeros(2 * channels + 1, ScalarType.Float64, input.device).MoveToOuterDisposeScope();
        var type = ComputeType(input.dtype);
        var mean = input.mean(ReducedDimensions(input), keepdim: true, type);
        var deviations = Sum(input, (first, length) => (input.narrow(0, first, length).to(type) - mean).square());
        return cat([mean.flatten().to(ScalarType.Float64), deviations, tensor(new[] { (double)count }, ScalarType.Float64, input.device)]).MoveToOuterDisposeScope();
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
