using static TorchSharp.torch;

namespace FabricSharp.Diagnostics;

/// <summary>
/// Notices when the loss jumps away from its mean over the last batches, or is not finite any more, on any rank. The ranks decide together.
/// Either stop (<see cref="OnTrainBatchEnd"/>, also as a callback: <c>fabric.Call("OnTrainBatchEnd", new { fabric, loss, batchIndex })</c>), or
/// leave the batch out and go on:
/// <code>
/// if (detection.IsExcluded(batchIndex)) continue;                       // known from an earlier run
/// …
/// fabric.Backward(loss);
/// if (detection.IsSpike(fabric, loss, batchIndex)) continue;            // all ranks go on without this step
/// optimizer.step();
/// </code>
/// </summary>
public sealed class SpikeDetection
{
    private readonly int _window, _warmup;
    private readonly double? _atol, _rtol;
    private readonly bool _higherIsWorse, _finiteOnly;
    private readonly Queue<double> _recent = new();
    private readonly ExcludedBatches _excluded;
    private double _last;

    /// <summary>Reads the batches that earlier runs excluded, if the file is there.</summary>
    /// <param name="mode"><c>"min"</c> when the loss is to fall, <c>"max"</c> when what is given is to rise. <value>Default "min".</value></param>
    /// <param name="window">How many of the last good batches the mean is taken over. <value>Default 10.</value></param>
    /// <param name="warmup">The first batches, which are never spikes. <value>Default 1.</value></param>
    /// <param name="atol">A spike is at least this far from the mean. <value>Default: any distance.</value></param>
    /// <param name="rtol">A spike is at least this many times the mean away from it. Both limits must be reached. <value>Default 2.</value></param>
    /// <param name="excludeBatchesPath">The file for the batches' numbers, JSON; a path without <c>.json</c> is a folder for
    /// <c>skip_batches.json</c>. <value>Default: the current folder.</value></param>
    /// <param name="finiteOnly">Whether a value that is not finite is a spike; if not, such values are passed over. <value>Default true.</value></param>
    public SpikeDetection(
        string mode = "min", int window = 10, int warmup = 1, double? atol = null, double? rtol = 2.0, string? excludeBatchesPath = null, bool finiteOnly = true)
    {
        if (mode is not ("min" or "max"))
            throw new ArgumentException($"SpikeDetection(mode: \"{mode}\"): the accepted modes are \"min\" (lower is better) and \"max\".", nameof(mode));
        ArgumentOutOfRangeException.ThrowIfLessThan(window, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(warmup);
        (_higherIsWorse, _window, _warmup, _atol, _rtol, _finiteOnly) = (mode == "min", window, warmup, atol, rtol, finiteOnly);
        _excluded = new ExcludedBatches(excludeBatchesPath ?? Directory.GetCurrentDirectory());
    }

    /// <summary>The batches that are to be left out, those of earlier runs included, each with the one before it.</summary>
    public IReadOnlyCollection<long> ExcludedBatches => _excluded.Numbers;

    /// <summary>Whether the batch is to be left out. Local; the same on all ranks that see the same file.</summary>
    public bool IsExcluded(long batchIndex) => _excluded.Contains(batchIndex);

    /// <summary>Judges a batch; a spike is noted in the file, on rank 0. Collective.</summary>
    /// <param name="fabric">A launched Fabric.</param>
    /// <param name="loss">This rank's loss: one element, read to the CPU.</param>
    /// <param name="batchIndex">The batch's number, the same on all ranks.</param>
    /// <returns>Whether any rank has a spike; the same on all ranks.</returns>
    public bool IsSpike(Fabric fabric, Tensor loss, long batchIndex)
    {
        ArgumentNullException.ThrowIfNull(fabric);
        ArgumentNullException.ThrowIfNull(loss);
        Loggers.MetricValue.Check("loss", loss);
        var value = Loggers.MetricValue.Item(loss);
        var mine = batchIndex >= _warmup && IsSpike(value);
        if (fabric.AllReduce(mine ? 1.0 : 0.0, "sum") > 0)
        {
            _excluded.Add([batchIndex - 1, batchIndex], write: fabric.IsGlobalZero);
            return true;
        }

        if (double.IsFinite(value))
            Remember(value);
        return false;
    }

    /// <summary>Judges a batch, and stops all ranks at a spike. Collective.</summary>
    /// <param name="fabric">A launched Fabric.</param>
    /// <param name="loss">This rank's loss: one element, read to the CPU.</param>
    /// <param name="batchIndex">The batch's number, the same on all ranks.</param>
    /// <exception cref="TrainingSpikeException">Some rank has a spike.</exception>
    public void OnTrainBatchEnd(Fabric fabric, Tensor loss, long batchIndex)
    {
        if (IsSpike(fabric, loss, batchIndex))
            throw new TrainingSpikeException(batchIndex, _excluded.Path);
    }

    private bool IsSpike(double value)
    {
        if (!double.IsFinite(value))
            return _finiteOnly;
        if (_recent.Count == 0 || (_higherIsWorse ? value <= _last : value >= _last))
            return false;
        var mean = _recent.Average();
        var distance = Math.Abs(value - mean);
        return (_atol is not { } atol || distance >= Math.Abs(atol)) && (_rtol is not { } rtol || distance >= Math.Abs(rtol * mean));
    }

    private void Remember(double value)
    {
        _last = value;
        _recent.Enqueue(value);
        if (_recent.Count > _window)
            _recent.Dequeue();
    }
}
