using System.Runtime.CompilerServices;
using System.Text.Json;
using FabricSharp.Collectives;
using FabricSharp.Diagnostics;
using FabricSharp.Loggers;

namespace FabricSharp.Tracing;

/// <summary>
/// The time lines of one rank: of all models whose gradients one process group averages. In the rank's file when a model's reducer is disposed,
/// when the averaging fails, and when the process ends. A file that cannot be written is a warning: training goes on.
/// </summary>
internal sealed class TraceRecorder : IUnsavedFile
{
    /// <summary>The environment variable that names the folder where the program does not.</summary>
    public const string Variable = "FABRIC_TRACE";

    private const int ModelsKept = 8;

    /// <summary>How long what was recorded may stay in memory only: a process that is killed outright loses no more.</summary>
    private const long SaveIntervalNs = 30_000_000_000;

    /// <summary>Saving while training goes on takes no larger share of the time than one in this number.</summary>
    private const int SaveShare = 500;

    private static readonly ConditionalWeakTable<ProcessGroup, TraceRecorder> Recorders = [];

    private readonly Lock _gate = new();
    private readonly TraceFile _head;
    private readonly long _zero;
    private readonly Func<long> _now;
    private readonly Queue<StepTrace> _models = new();
    private string? _failure;
    private bool _isUnsaved, _hasWarned;
    private long _nextSave = SaveIntervalNs;

    public TraceRecorder(string folder, int rank, int worldSize, string backend, ClockAlignment.Exchange exchange, Func<long>? now = null, long? clockId = null)
    {
        _now = now ?? ClockAlignment.Now;
        var (zero, offset, run) = ClockAlignment.Measure(rank, worldSize, exchange, _now, clockId ?? ClockAlignment.ClockId());
        _zero = zero;
        Path = System.IO.Path.Combine(LogFolder.Expand(folder), TraceFile.NameFor(rank));
        _head = new TraceFile
        {
            Format = TraceFile.FormatName,
            Version = TraceFile.CurrentVersion,
            Run = run.ToString("x16", System.Globalization.CultureInfo.InvariantCulture),
            Rank = rank,
            WorldSize = worldSize,
            Backend = backend,
            Started = TimeProvider.System.GetUtcNow().UtcDateTime,
            Clock = offset,
            Models = [],
        };
    }

    /// <summary>The rank's file.</summary>
    public string Path { get; }

    public int WorldSize => _head.WorldSize;

    /// <summary>The folder that the program or the environment names; null where nothing is to be recorded.</summary>
    public static string? FolderOf(string? chosen) =>
        chosen ?? (Environment.GetEnvironmentVariable(Variable) is { } folder && !string.IsNullOrWhiteSpace(folder) ? folder : null);

    /// <summary>The recorder of the group, made at the first call. Collective.</summary>
    public static TraceRecorder For(ProcessGroup group, string folder, ClockAlignment.Exchange exchange)
    {
        if (!Recorders.TryGetValue(group, out var recorder))
            Recorders.Add(group, recorder = new TraceRecorder(folder, group.Rank, group.Size, group.Backend, exchange));
        return recorder;
    }

    /// <summary>Begins the time line of a model; of more than eight, the first are given up.</summary>
    public StepTrace Begin(TracedModel model)
    {
        var trace = new StepTrace(this, model);
        lock (_gate)
        {
            _models.Enqueue(trace);
            if (_models.Count > ModelsKept)
                _models.Dequeue();
        }

        return trace;
    }

    /// <summary>Nanoseconds since set-up.</summary>
    public long Now() => _now() - _zero;

    /// <summary>Something was recorded that is not in the file yet.</summary>
    public void Changed()
    {
        if (!Volatile.Read(ref _isUnsaved))
        {
            Volatile.Write(ref _isUnsaved, true);
            UnsavedFiles.Add(this);
        }

        var now = Now();
        if (now < _nextSave)
            return;
        SaveQuietly();
        var end = Now();
        _nextSave = end + Math.Max(SaveIntervalNs, SaveShare * (end - now));
    }

    public void Fail(string message)
    {
        _failure ??= message.Split('\n')[0];
        Volatile.Write(ref _isUnsaved, true);
        SaveQuietly();
    }

    public void SaveQuietly() => TrySave(Timeout.InfiniteTimeSpan);

    /// <inheritdoc/>
    public bool TrySave(TimeSpan limit)
    {
        if (!_gate.TryEnter(limit))
            return false;
        try
        {
            if (_isUnsaved)
                Save();
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            Warn(e);
            return false;
        }
        finally
        {
            UnsavedFiles.Remove(this);
            _gate.Exit();
        }
    }

    private void Save()
    {
        _isUnsaved = false; // a step that ends from here on is saved the next time
        var file = _head with { Failure = _failure, Models = [.. _models.Select(model => model.Snapshot(withOpen: true))] };
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(Path))!);
        ReplacedFile.Write(Path, stream => JsonSerializer.Serialize(stream, file, TraceReader.Json));
    }

    private void Warn(Exception e)
    {
        if (!_hasWarned)
            Console.Error.WriteLine($"FabricSharp: rank {_head.Rank}: the time line of the training could not be written to '{Path}': {e.Message} Training goes on. Name a folder that can be written with DDPStrategy.Trace or {Variable}.");
        _hasWarned = true;
    }
}
