using System.Diagnostics;

namespace FabricSharp.Collectives.Control;

/// <summary>One wait of a rank: when it lasts, the hub is told, so that a standstill of all ranks is noticed.</summary>
internal sealed class ControlWait(ControlLine line, int channel, long number, string text) : IDisposable
{
    /// <summary>How often the hub hears of a wait that lasts, and after what time first.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(500);

    private long _next = Stopwatch.GetTimestamp() + (long)(Interval.TotalSeconds * Stopwatch.Frequency);
    private bool _told;

    /// <summary>To be called now and then. Does not wait.</summary>
    public void Look()
    {
        if (Stopwatch.GetTimestamp() < _next)
            return;
        _next = Stopwatch.GetTimestamp() + (long)(Interval.TotalSeconds * Stopwatch.Frequency);
        _told = true;
        line.TellWaiting(channel, number, text);
    }

    public void Dispose()
    {
        if (_told)
            line.TellResumed();
    }
}
