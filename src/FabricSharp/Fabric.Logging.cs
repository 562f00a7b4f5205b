using FabricSharp.Loggers;

namespace FabricSharp;

/// <summary>Metrics.</summary>
public sealed partial class Fabric
{
    /// <summary>The loggers that Fabric was given.</summary>
    public IReadOnlyList<ILogger> Loggers => _plan.Loggers;

    /// <summary>The first logger; null when there is none.</summary>
    public ILogger? Logger => _plan.Loggers.Count > 0 ? _plan.Loggers[0] : null;

    /// <summary>Gives a metric to every logger, on rank 0 only. Local, to be called on any rank.</summary>
    /// <param name="name">The metric's name; a <c>/</c> in it groups metrics in TensorBoard.</param>
    /// <param name="value">A number, a tensor of one element, or a dictionary of them, which becomes one diagram of several curves.
    /// Reading a tensor of a device waits for the device.</param>
    /// <param name="step">The training step. <value>Default: each logger counts its calls.</value></param>
    /// <exception cref="ArgumentException">The value cannot be a number; on every rank.</exception>
    public void Log(string name, object value, long? step = null)
    {
        ArgumentNullException.ThrowIfNull(name);
        LogAll([KeyValuePair.Create(name, (object?)value)], step);
    }

    /// <summary>Gives metrics to every logger, on rank 0 only. Local, to be called on any rank.</summary>
    /// <param name="metrics">Numbers, tensors of one element, or dictionaries of them, by name.</param>
    /// <param name="step">The training step. <value>Default: each logger counts its calls.</value></param>
    /// <exception cref="ArgumentException">A value cannot be a number; on every rank.</exception>
    public void LogDict(Dictionary<string, object?> metrics, long? step = null)
    {
        ArgumentNullException.ThrowIfNull(metrics);
        LogAll(metrics, step);
    }

    /// <inheritdoc cref="LogDict(Dictionary{string, object}, long?)"/>
    public void LogDict<TValue>(IReadOnlyDictionary<string, TValue> metrics, long? step = null)
    {
        ArgumentNullException.ThrowIfNull(metrics);
        LogAll([.. metrics.Select(metric => KeyValuePair.Create(metric.Key, (object?)metric.Value))], step);
    }

    private void LogAll(IReadOnlyCollection<KeyValuePair<string, object?>> metrics, long? step)
    {
        RequireAlive(nameof(Log));
        var groups = metrics.Select(metric => (metric.Key, Group: MetricValue.AsGroup(metric.Value))).Where(pair => pair.Group is not null).ToList();
        var numbers = metrics.Where(metric => MetricValue.AsGroup(metric.Value) is null).ToList();
        foreach (var (name, value) in numbers.Concat(groups.SelectMany(pair => pair.Group!)))
            MetricValue.Check(name, value);
        if (!IsGlobalZero || Loggers.Count == 0)
            return;
        if (numbers.Count > 0)
            SendEach(logger => logger.LogMetrics, Numbers(numbers), step);
        foreach (var (name, group) in groups)
            SendEach(logger => (values, at) => logger.LogGroup(name, values, at), Numbers(group!), step);
    }

    private void SendEach(Func<ILogger, Action<IReadOnlyDictionary<string, double>, long?>> method, IReadOnlyDictionary<string, double> values, long? step)
    {
        foreach (var logger in Loggers)
            method(logger)(values, step);
    }

    private static Dictionary<string, double> Numbers(IEnumerable<KeyValuePair<string, object?>> metrics) =>
        metrics.ToDictionary(metric => metric.Key, metric => MetricValue.ToNumber(metric.Value));

    /// <summary>The end of a Fabric is not the end of a run, so the loggers stay open.</summary>
    private void SaveLogs()
    {
        if (!IsGlobalZero)
            return;
        foreach (var logger in Loggers)
            logger.Save();
    }
}
