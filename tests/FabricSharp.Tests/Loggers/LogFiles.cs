using FabricSharp.Loggers;

namespace FabricSharp.Tests.Loggers;

/// <summary>A folder for the logs of one test.</summary>
internal sealed class LogFiles : IDisposable
{
    public string Root { get; } = Directory.CreateTempSubdirectory("fabric-logs-").FullName;

    public string this[string name] => Path.Combine(Root, name);

    public IEnumerable<string> All => Directory.EnumerateFiles(Root, "*", SearchOption.AllDirectories).Select(path => Path.GetRelativePath(Root, path)).Order(StringComparer.Ordinal);

    public static Dictionary<string, double> Metrics(params (string Name, double Value)[] metrics) => metrics.ToDictionary(metric => metric.Name, metric => metric.Value);

    public string[] Lines(string name) => File.ReadAllText(this[name]).TrimEnd('\n').Split('\n');

    /// <summary>What a CSV logger writes for these calls.</summary>
    public string[] Csv(Action<CsvLogger> log, int every = 100)
    {
        using (var logger = new CsvLogger(Root, "", "run", flushLogsEveryNSteps: every))
            log(logger);
        return Lines("run/metrics.csv");
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}

/// <summary>A clock that stands until it is moved, with timers.</summary>
internal sealed class ManualTime(DateTimeOffset now) : TimeProvider
{
    private readonly List<ManualTimer> _timers = [];

    public DateTimeOffset Now { get; private set; } = now;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override DateTimeOffset GetUtcNow() => Now;

    public override long GetTimestamp() => Now.Ticks;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new ManualTimer(this, callback, state);
        timer.Change(dueTime, period);
        _timers.Add(timer);
        return timer;
    }

    public void Advance(TimeSpan by)
    {
        Now += by;
        foreach (var timer in _timers.ToArray())
            timer.RunWhereDue();
    }

    private sealed class ManualTimer(ManualTime time, TimerCallback callback, object? state) : ITimer
    {
        private DateTimeOffset? _due;

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            _due = dueTime == Timeout.InfiniteTimeSpan ? null : time.Now + dueTime;
            return true;
        }

        public void RunWhereDue()
        {
            if (_due is null || _due > time.Now)
                return;
            _due = null;
            callback(state);
        }

        public void Dispose() => _due = null;

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
