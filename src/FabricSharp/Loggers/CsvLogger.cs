using System.Text.Encodings.Web;
using System.Text.Json;
using FabricSharp.Diagnostics;

namespace FabricSharp.Loggers;

/// <summary>
/// Writes metrics to <c>root/name/version_N/metrics.csv</c>: a row for each call, the columns sorted by name, a column <c>step</c> always among
/// them (a metric of that name is replaced by it); UTF-8, numbers with a point. A new metric adds a column; earlier rows are kept, with blanks. Hyper-parameters go to
/// <c>hparams.json</c> beside it. Only rank 0 writes.
/// </summary>
public sealed class CsvLogger : FileLogger
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly long _flushEveryNSteps;
    private readonly SortedDictionary<string, object> _parameters = new(StringComparer.Ordinal);
    private CsvFile? _file;
    private long _lastStep;

    /// <summary>Writes nothing yet.</summary>
    /// <param name="rootDirectory">Where the folders of experiments lie. <c>~</c> and <c>$VARIABLES</c> are replaced.</param>
    /// <param name="name">The experiment; empty leaves its level of folders out. <value>Default "lightning_logs".</value></param>
    /// <param name="version">The run, a number or a name. <value>Default: one more than the highest number that is there.</value></param>
    /// <param name="prefix">Put before each metric's name, with a <c>-</c>. <value>Default none.</value></param>
    /// <param name="flushLogsEveryNSteps">After how many rows they are written to the file; also at each step n·k − 1. <value>Default 100.</value></param>
    /// <param name="flushInterval">The longest time that a row stays in memory. <value>Default 10 s.</value></param>
    public CsvLogger(string rootDirectory, string name = "lightning_logs", LogVersion? version = null, string prefix = "", int flushLogsEveryNSteps = 100, TimeSpan? flushInterval = null)
        : this(rootDirectory, name, version, prefix, flushLogsEveryNSteps, flushInterval, TimeProvider.System)
    {
    }

    internal CsvLogger(string rootDirectory, string name, LogVersion? version, string prefix, int flushLogsEveryNSteps, TimeSpan? flushInterval, TimeProvider time)
        : base(rootDirectory, name, version, prefix, flushInterval, time)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(flushLogsEveryNSteps, 1);
        _flushEveryNSteps = flushLogsEveryNSteps;
    }

    private protected override bool IsFlushDue =>
        _file is { PendingRows: > 0 } file && (file.PendingRows >= _flushEveryNSteps || (_lastStep + 1) % _flushEveryNSteps == 0);

    private protected override void Write(IEnumerable<KeyValuePair<string, double>> metrics, long step)
    {
        _file ??= Open();
        _file.Add(metrics, step);
        _lastStep = step;
    }

    private protected override void WriteHyperparameters(IReadOnlyDictionary<string, object?> parameters)
    {
        foreach (var (name, value) in Hyperparameters.Flatten(parameters))
            _parameters[name] = value;
        Directory.CreateDirectory(LogDirectory);
        var parametersByName = _parameters.ToDictionary(pair => pair.Key, pair => Plain(pair.Value));
        ReplacedFile.Write(Path.Combine(LogDirectory, "hparams.json"), stream => JsonSerializer.Serialize(stream, parametersByName, Json));
    }

    private protected override void Flush() => _file?.Save();

    private static object Plain(object value) => value is double number && !double.IsFinite(number) ? Hyperparameters.Text(number) : value;

    private CsvFile Open()
    {
        var path = Path.Combine(LogDirectory, "metrics.csv");
        if (File.Exists(path))
        {
            Console.Error.WriteLine($"FabricSharp: Experiment logs directory {LogDirectory} exists and is not empty. Its metrics.csv is deleted, because new metrics are logged there. Give another version, or none, to keep it.");
            File.Delete(path);
        }
        else if (Directory.Exists(LogDirectory) && Directory.EnumerateFileSystemEntries(LogDirectory).Any(entry => Path.GetFileName(entry) != "hparams.json"))
        {
            Console.Error.WriteLine($"FabricSharp: Experiment logs directory {LogDirectory} exists and is not empty. New metrics are logged there.");
        }

        Directory.CreateDirectory(LogDirectory);
        return new CsvFile(path);
    }
}
