using FabricSharp.Diagnostics;

namespace FabricSharp.Loggers;

/// <summary>
/// What the loggers that write files have in common: the folder <c>root/name/version</c>, rank 0 only, the automatic step, and that nothing
/// is lost: what was logged is in the file after the flush interval, at <see cref="Save"/>, and when the process ends, be it by an unhandled
/// exception or another rank's failure. May be used by several threads.
/// </summary>
public abstract class FileLogger : ILogger, IUnsavedFile, IDisposable
{
    private readonly Lock _gate = new();
    private readonly string _prefix;
    private readonly TimeSpan _flushInterval;
    private readonly TimeProvider _time;
    private ITimer? _timer;
    private LogVersion? _version;
    private int? _boundRank;
    private long _nextStep;
    private bool _unsaved, _timerFailed;

    private protected FileLogger(string rootDirectory, string name, LogVersion? version, string prefix, TimeSpan? flushInterval, TimeProvider time)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(rootDirectory);
        RootDirectory = LogFolder.Expand(rootDirectory);
        Name = name ?? "";
        _version = version is { Text: not null } ? version : null;
        _prefix = string.IsNullOrEmpty(prefix) ? "" : prefix + "-";
        _flushInterval = flushInterval ?? TimeSpan.FromSeconds(10);
        ArgumentOutOfRangeException.ThrowIfLessThan(_flushInterval, TimeSpan.Zero, nameof(flushInterval));
        _time = time;
    }

    /// <inheritdoc/>
    public string Name { get; }

    /// <summary>The folder that was given, with <c>~</c> and <c>$VARIABLES</c> replaced.</summary>
    public string RootDirectory { get; }

    /// <summary>
    /// The run's number as text, or its name. Where it was not given it is found at the first use; that is exact on rank 0 only, so broadcast
    /// it where other ranks need it.
    /// </summary>
    public string Version => ResolvedVersion.Text;

    /// <summary>The folder of this run.</summary>
    public virtual string LogDirectory => Path.Combine(ExperimentDirectory, ResolvedVersion.Folder);

    private protected TimeProvider Time => _time;

    private string ExperimentDirectory => Path.Combine(RootDirectory, Name);

    private LogVersion ResolvedVersion
    {
        get
        {
            lock (_gate)
                return _version ??= LogFolder.Next(ExperimentDirectory);
        }
    }

    private bool IsWriter => LoggingRank.IsZero(_boundRank);

    /// <inheritdoc/>
    public void LogMetrics(IReadOnlyDictionary<string, double> metrics, long? step = null)
    {
        ArgumentNullException.ThrowIfNull(metrics);
        Change(() => Write(metrics.Select(metric => KeyValuePair.Create(_prefix + metric.Key, metric.Value)), Count(step)));
    }

    /// <inheritdoc/>
    public void LogGroup(string group, IReadOnlyDictionary<string, double> metrics, long? step = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(group);
        ArgumentNullException.ThrowIfNull(metrics);
        Change(() => WriteGroup(_prefix + group, metrics, Count(step)));
    }

    /// <inheritdoc/>
    public void LogHyperparameters(IReadOnlyDictionary<string, object?> parameters)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        Change(() => WriteHyperparameters(parameters));
    }

    /// <inheritdoc/>
    public void Save()
    {
        lock (_gate)
            SaveUnderGate();
    }

    /// <inheritdoc/>
    public void Finalize(string status)
    {
        ArgumentNullException.ThrowIfNull(status);
        if (!IsWriter)
            return;
        lock (_gate)
        {
            WriteEnd(status);
            SaveUnderGate();
            Close();
            _timer?.Dispose();
            _timer = null;
        }
    }

    /// <summary>Ends the run well: <see cref="Finalize"/>.</summary>
    public void Dispose()
    {
        Finalize("success");
        GC.SuppressFinalize(this);
    }

    /// <summary>Fabric says which rank this is, where it knows better than the environment variables.</summary>
    internal void BindTo(int globalRank) => _boundRank = globalRank;

    /// <summary>Saves if the logger is free within <paramref name="limit"/>; a failure is only shown.</summary>
    bool IUnsavedFile.TrySave(TimeSpan limit) => TrySave(limit);

    private bool TrySave(TimeSpan limit)
    {
        if (!_gate.TryEnter(limit))
            return false;
        try
        {
            SaveUnderGate();
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"FabricSharp: the last metrics could not be written to '{LogDirectory}': {e.Message}");
            return false;
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>Takes a row into memory.</summary>
    private protected abstract void Write(IEnumerable<KeyValuePair<string, double>> metrics, long step);

    private protected virtual void WriteGroup(string group, IReadOnlyDictionary<string, double> metrics, long step) =>
        Write(metrics.Select(metric => KeyValuePair.Create($"{group}/{metric.Key}", metric.Value)), step);

    private protected abstract void WriteHyperparameters(IReadOnlyDictionary<string, object?> parameters);

    private protected virtual void WriteEnd(string status)
    {
    }

    /// <summary>Brings what is in memory to the file. Called again after a failure.</summary>
    private protected abstract void Flush();

    /// <summary>Whether what was just taken is to be saved at once.</summary>
    private protected virtual bool IsFlushDue => false;

    private protected virtual void Close()
    {
    }

    /// <summary>Runs <paramref name="write"/> on rank 0, and sees to it that what it leaves in memory is saved in time.</summary>
    private protected void Change(Action write)
    {
        if (!IsWriter)
            return;
        lock (_gate)
        {
            write();
            if (!_unsaved)
                BeginUnsaved();
            if (IsFlushDue || _timerFailed || _flushInterval == TimeSpan.Zero)
                SaveUnderGate();
        }
    }

    private long Count(long? step) => step ?? _nextStep++;

    private void BeginUnsaved()
    {
        _unsaved = true;
        UnsavedFiles.Add(this);
        if (_flushInterval == TimeSpan.Zero)
            return;
        _timer ??= _time.CreateTimer(_ => SaveOnTimer(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        _timer.Change(_flushInterval, Timeout.InfiniteTimeSpan);
    }

    private void SaveOnTimer()
    {
        if (!_timerFailed)
            _timerFailed = !TrySave(Timeout.InfiniteTimeSpan); // the next call on the user's thread tries again, and throws
    }

    private void SaveUnderGate()
    {
        if (!_unsaved)
            return;
        Flush();
        _unsaved = _timerFailed = false;
        UnsavedFiles.Remove(this);
    }
}
