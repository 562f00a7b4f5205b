namespace FabricSharp.Diagnostics;

/// <summary>
/// Rates of training over a window of the last updates: batches, samples and items per second, FLOPs per second, and how much of the
/// device's peak that is. Give it running totals after each step and ask <see cref="Compute"/>. Local; knows nothing of other ranks but
/// their number.
/// </summary>
public class Throughput
{
    private readonly int _windowSize, _worldSize;
    private readonly string _separator;
    private readonly Queue<Totals> _window = new();
    private Totals? _last;

    /// <summary>Begins with an empty window.</summary>
    /// <param name="availableFlops">FLOPs per second that one device can do at best; without it there is no <c>device/mfu</c>. <value>Default unknown.</value></param>
    /// <param name="worldSize">The number of ranks, each of which does as much as this one. <value>Default 1.</value></param>
    /// <param name="windowSize">The number of updates that rates are taken over, at least 2. <value>Default 100.</value></param>
    /// <param name="separator">Stands between <c>device</c> and the rate's name. <value>Default "/".</value></param>
    /// <param name="sparseFactor">What the peak is multiplied by for models that use the device's structured sparsity (2 on NVIDIA GPUs). <value>Default 1.</value></param>
    public Throughput(double? availableFlops = null, int worldSize = 1, int windowSize = 100, string separator = "/", double sparseFactor = 1)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(worldSize, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(windowSize, 2);
        ArgumentNullException.ThrowIfNull(separator);
        if (availableFlops is { } flops)
            ArgumentOutOfRangeException.ThrowIfNegativeOrZero(flops, nameof(availableFlops));
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(sparseFactor);
        AvailableFlops = availableFlops * sparseFactor;
        _worldSize = worldSize;
        _windowSize = windowSize;
        _separator = separator;
    }

    /// <summary>FLOPs per second that one device can do at best; null when that is unknown.</summary>
    public double? AvailableFlops { get; }

    /// <summary>Takes this rank's totals since the beginning. Each must be larger than at the last call.</summary>
    /// <param name="time">Time since the beginning.</param>
    /// <param name="batches">Batches since the beginning.</param>
    /// <param name="samples">Samples since the beginning, at least as many as batches.</param>
    /// <param name="lengths">Items (such as tokens) since the beginning, at least as many as samples. Always or never.</param>
    /// <param name="flops">FLOPs of this rank since the last call (not a total). Always or never.</param>
    /// <exception cref="ArgumentException">A total did not grow, or is smaller than it can be; nothing has changed then.</exception>
    public virtual void Update(TimeSpan time, long batches, long samples, long? lengths = null, double? flops = null)
    {
        var totals = new Totals(time, batches, samples, lengths, flops);
        Check(totals);
        _last = totals;
        _window.Enqueue(totals);
        if (_window.Count > _windowSize)
            _window.Dequeue();
    }

    /// <summary>
    /// The totals <c>time</c> (seconds), <c>batches</c>, <c>samples</c>, <c>lengths</c>; once the window is full also
    /// <c>device/batches_per_sec</c>, <c>device/samples_per_sec</c>, <c>device/items_per_sec</c>, <c>device/flops_per_sec</c>,
    /// <c>device/mfu</c> of this rank, and with several ranks the same (but <c>mfu</c>) without <c>device/</c> for all of them.
    /// Empty before the first update.
    /// </summary>
    public virtual IReadOnlyDictionary<string, double> Compute()
    {
        var metrics = new Dictionary<string, double>();
        if (_last is not { } last)
            return metrics;
        metrics["time"] = last.Time.TotalSeconds;
        metrics["batches"] = last.Batches;
        metrics["samples"] = last.Samples;
        if (last.Lengths is { } lengths)
            metrics["lengths"] = lengths;
        if (_window.Count == _windowSize)
            AddRates(metrics, _window.Peek(), last);
        return metrics;
    }

    /// <summary>Forgets everything.</summary>
    public virtual void Reset()
    {
        _window.Clear();
        _last = null;
    }

    private void AddRates(Dictionary<string, double> metrics, Totals first, Totals last)
    {
        var elapsed = (last.Time - first.Time).TotalSeconds;
        AddRate(metrics, "batches_per_sec", (last.Batches - first.Batches) / elapsed);
        AddRate(metrics, "samples_per_sec", (last.Samples - first.Samples) / elapsed);
        AddRate(metrics, "items_per_sec", (last.Lengths - first.Lengths) / elapsed);
        var flops = _window.Skip(1).Sum(totals => totals.Flops) / elapsed; // what the first entry reports was done before it
        AddRate(metrics, "flops_per_sec", last.Flops is null ? null : flops);
        if (last.Flops is not null && AvailableFlops is { } available)
            metrics[$"device{_separator}mfu"] = flops!.Value / available;
    }

    private void AddRate(Dictionary<string, double> metrics, string name, double? rate)
    {
        if (rate is not { } known)
            return;
        metrics[$"device{_separator}{name}"] = known;
        if (_worldSize > 1)
            metrics[name] = known * _worldSize;
    }

    private void Check(Totals totals)
    {
        if (totals.Samples < totals.Batches)
            throw new ArgumentException($"Expected samples ({totals.Samples}) to be greater or equal than batches ({totals.Batches}).", "samples");
        if (totals.Lengths < totals.Samples)
            throw new ArgumentException($"Expected lengths ({totals.Lengths}) to be greater or equal than samples ({totals.Samples}).", "lengths");
        if (_last is not { } last)
            return;
        RequireGrowth("time", last.Time.TotalSeconds, totals.Time.TotalSeconds);
        RequireGrowth("batches", last.Batches, totals.Batches);
        RequireGrowth("samples", last.Samples, totals.Samples);
        RequireSame("lengths", last.Lengths.HasValue, totals.Lengths.HasValue);
        RequireSame("flops", last.Flops.HasValue, totals.Flops.HasValue);
        if (totals.Lengths is { } lengths)
            RequireGrowth("lengths", last.Lengths!.Value, lengths);
    }

    private static void RequireGrowth(string name, double last, double current)
    {
        if (!(current > last))
            throw new ArgumentException(
                FormattableString.Invariant($"Expected the value to increase, last: {last}, current: {current}. `{name}` is the total since the beginning, not what this step added."), name);
    }

    private static void RequireSame(string name, bool before, bool now)
    {
        if (before != now)
            throw new ArgumentException($"If `{name}` is given, it must be given at every update: it was {(before ? "given before, not now" : "not given before")}. Call `Reset()` to begin anew.", name);
    }

    private sealed record Totals(TimeSpan Time, long Batches, long Samples, long? Lengths, double? Flops);
}
