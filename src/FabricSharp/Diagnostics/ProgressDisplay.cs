using System.Globalization;

namespace FabricSharp.Diagnostics;

/// <summary>
/// Shows how far a long loop is, on the standard error of rank 0. In a terminal one line is written over again and again; elsewhere (a pipe, a
/// file, a batch system's log) a whole line is written now and then. On other ranks it does nothing. Local.
/// <code>using var progress = new ProgressDisplay(fabric, train.Count, "epoch 3");
/// foreach (var batch in train) { …; progress.Advance(note: $"loss {loss:F3}"); }</code>
/// </summary>
public sealed class ProgressDisplay : IDisposable
{
    private readonly TextWriter? _output;
    private readonly bool _isTerminal;
    private readonly Func<int> _width;
    private readonly TimeProvider _time;
    private readonly long _start, _total;
    private readonly string _title;
    private readonly TimeSpan _interval;
    private TimeSpan? _shownAt;
    private long _done;
    private int _shownLength;
    private string _note = "";

    /// <summary>Shows nothing yet.</summary>
    /// <param name="fabric">Says which rank this is.</param>
    /// <param name="total">The number of steps; 0 when it is not known.</param>
    /// <param name="title">Stands in front. <value>Default none.</value></param>
    /// <param name="interval">The shortest time between two displays. <value>Default 0.1 s in a terminal, else 10 s.</value></param>
    public ProgressDisplay(Fabric fabric, long total, string title = "", TimeSpan? interval = null)
        : this((fabric ?? throw new ArgumentNullException(nameof(fabric))).IsGlobalZero ? Console.Error : null, !Console.IsErrorRedirected, () => Console.BufferWidth, total, title, interval, TimeProvider.System)
    {
    }

    internal ProgressDisplay(TextWriter? output, bool isTerminal, Func<int> width, long total, string title, TimeSpan? interval, TimeProvider time)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(total);
        ArgumentNullException.ThrowIfNull(title);
        (_output, _isTerminal, _width, _total, _title, _time) = (output, isTerminal, width, total, title, time);
        _interval = interval ?? (isTerminal ? TimeSpan.FromSeconds(0.1) : TimeSpan.FromSeconds(10));
        _start = time.GetTimestamp();
    }

    /// <summary>Goes forward.</summary>
    /// <param name="steps">By how many steps. <value>Default 1.</value></param>
    /// <param name="note">Shown behind; stays until another is given. <value>Default: the last one.</value></param>
    public void Advance(long steps = 1, string? note = null)
    {
        _done += steps;
        _note = note ?? _note;
        if (_output is null)
            return;
        var now = _time.GetElapsedTime(_start);
        if (now - (_shownAt ?? (_isTerminal ? TimeSpan.MinValue / 2 : TimeSpan.Zero)) >= _interval)
            Show(now);
    }

    /// <summary>Shows the last state and ends the line.</summary>
    public void Dispose()
    {
        if (_output is null || _shownLength < 0)
            return;
        Show(_time.GetElapsedTime(_start));
        if (_isTerminal)
            _output.WriteLine();
        _shownLength = -1;
    }

    private void Show(TimeSpan now)
    {
        _shownAt = now;
        var line = Line(now);
        if (!_isTerminal)
        {
            _output!.WriteLine(line);
            return;
        }

        line = line[..Math.Min(line.Length, Math.Max(1, _width() - 1))]; // a line that wraps cannot be written over
        _output!.Write("\r" + line.PadRight(_shownLength));
        _output.Flush();
        _shownLength = line.Length;
    }

    private string Line(TimeSpan now)
    {
        var rate = now > TimeSpan.Zero ? _done / now.TotalSeconds : 0;
        var parts = new List<string> { _total > 0 ? Text($"{_done}/{_total} ({100.0 * _done / _total:F0} %)") : Text($"{_done}"), Rate(rate) };
        if (_total > _done && rate > 0)
            parts.Add($"{Clock((_total - _done) / rate)} left");
        else
            parts.Add($"{Clock(now.TotalSeconds)} taken");
        if (_note.Length > 0)
            parts.Add(_note.ReplaceLineEndings(" "));
        return (_title.Length > 0 ? _title + ": " : "") + string.Join(", ", parts);
    }

    private static string Rate(double rate) => rate < 100 ? Text($"{rate:G3}/s") : Text($"{rate:F0}/s");

    private static string Clock(double seconds)
    {
        var whole = (long)Math.Min(seconds, 1e9);
        return whole < 3600 ? Text($"{whole / 60}:{whole % 60:D2}") : Text($"{whole / 3600}:{whole / 60 % 60:D2}:{whole % 60:D2}");
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
