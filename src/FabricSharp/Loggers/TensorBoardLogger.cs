using FabricSharp.Loggers.TensorBoard;

namespace FabricSharp.Loggers;

/// <summary>
/// Writes the event files that TensorBoard shows (<c>tensorboard --logdir root</c>) to <c>root/name/version_N</c>: metrics as scalars,
/// groups as several curves in one diagram, hyper-parameters for the HPARAMS page. Only rank 0 writes. Values are stored as 32-bit floats.
/// </summary>
public sealed class TensorBoardLogger : FileLogger
{
    private readonly bool _defaultHpMetric;
    private readonly string? _subDirectory;
    private readonly Dictionary<string, EventFile> _files = [];
    private bool _sessionOpen;

    /// <summary>Writes nothing yet.</summary>
    /// <param name="rootDirectory">Where the folders of experiments lie. <c>~</c> and <c>$VARIABLES</c> are replaced.</param>
    /// <param name="name">The experiment; empty leaves its level of folders out. <value>Default "lightning_logs".</value></param>
    /// <param name="version">The run, a number or a name. <value>Default: one more than the highest number that is there.</value></param>
    /// <param name="defaultHpMetric">Whether hyper-parameters that come without metrics get a metric <c>hp_metric</c> of −1, without which
    /// TensorBoard does not show them. <value>Default true.</value></param>
    /// <param name="prefix">Put before each metric's name, with a <c>-</c>. <value>Default none.</value></param>
    /// <param name="subDirectory">A folder inside the run's, for instance <c>"train"</c>. <value>Default none.</value></param>
    /// <param name="flushInterval">The longest time that an event stays in memory. <value>Default 10 s.</value></param>
    public TensorBoardLogger(
        string rootDirectory, string name = "lightning_logs", LogVersion? version = null, bool defaultHpMetric = true, string prefix = "", string? subDirectory = null, TimeSpan? flushInterval = null)
        : this(rootDirectory, name, version, defaultHpMetric, prefix, subDirectory, flushInterval, TimeProvider.System)
    {
    }

    internal TensorBoardLogger(
        string rootDirectory, string name, LogVersion? version, bool defaultHpMetric, string prefix, string? subDirectory, TimeSpan? flushInterval, TimeProvider time)
        : base(rootDirectory, name, version, prefix, flushInterval, time)
    {
        _defaultHpMetric = defaultHpMetric;
        _subDirectory = subDirectory is null ? null : LogFolder.Expand(subDirectory);
    }

    /// <inheritdoc/>
    public override string LogDirectory => _subDirectory is null ? base.LogDirectory : Path.Combine(base.LogDirectory, _subDirectory);

    /// <summary>Records what a run was started with and the figures to compare runs by. Local.</summary>
    /// <param name="parameters">Values by name; dictionaries inside become <c>outer/inner</c>.</param>
    /// <param name="metrics">The figures as they are now, at step 0; log them again under the same names when they are known better.</param>
    public void LogHyperparameters(IReadOnlyDictionary<string, object?> parameters, IReadOnlyDictionary<string, double> metrics)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        ArgumentNullException.ThrowIfNull(metrics);
        Change(() => WriteHyperparameters(parameters, metrics));
    }

    private protected override bool IsFlushDue => _files.Values.Any(file => file.IsFlushDue);

    private double Now => (Time.GetUtcNow() - DateTimeOffset.UnixEpoch).TotalSeconds;

    private protected override void Write(IEnumerable<KeyValuePair<string, double>> metrics, long step)
    {
        foreach (var (tag, value) in metrics)
            File("").Add(EventMessages.Scalar(Now, step, tag, (float)value));
    }

    /// <summary>Each curve of a group is a run of its own to TensorBoard, in a folder beside the event file.</summary>
    private protected override void WriteGroup(string group, IReadOnlyDictionary<string, double> metrics, long step)
    {
        foreach (var (name, value) in metrics)
            File($"{group}_{name}".Replace('/', '_').Replace('\\', '_')).Add(EventMessages.Scalar(Now, step, group, (float)value));
    }

    private protected override void WriteHyperparameters(IReadOnlyDictionary<string, object?> parameters) =>
        WriteHyperparameters(parameters, _defaultHpMetric ? new Dictionary<string, double> { ["hp_metric"] = -1 } : []);

    private void WriteHyperparameters(IReadOnlyDictionary<string, object?> parameters, IReadOnlyDictionary<string, double> metrics)
    {
        var values = Hyperparameters.Flatten(parameters).ToList();
        Write(metrics, 0);
        File("").Add(HyperparameterMessages.Experiment(Now, values, metrics.Keys));
        File("").Add(HyperparameterMessages.SessionStart(Now, values));
        _sessionOpen = true;
    }

    private protected override void WriteEnd(string status)
    {
        if (!_sessionOpen)
            return;
        _sessionOpen = false;
        Change(() => File("").Add(HyperparameterMessages.SessionEnd(Now, isSuccess: status is "success" or "finished")));
    }

    private protected override void Flush()
    {
        foreach (var file in _files.Values)
            file.Flush();
    }

    private protected override void Close()
    {
        foreach (var file in _files.Values)
            file.Dispose();
        _files.Clear();
    }

    private EventFile File(string folder)
    {
        if (!_files.TryGetValue(folder, out var file))
            _files.Add(folder, file = EventFile.Create(Path.Combine(LogDirectory, folder), Now));
        return file;
    }
}
