using System.Diagnostics;

namespace FabricSharp.DataParallel;

/// <summary>
/// When the parts of a training step began and ended on this rank. A step is a forward pass and the backward pass after it; communication that
/// runs during the backward pass overlaps with it. Not thread-safe.
/// </summary>
internal sealed class StepClock
{
    private long _forwardBegin;
    private long _forwardEnd;
    private long _backwardBegin;
    private long _backwardEnd;
    private long _communicationBegin;

    private StepTimes _sum;
    private long _steps;

    /// <summary>Of the last complete step.</summary>
    public StepTimes Last { get; private set; }

    /// <summary>Mean over all complete steps.</summary>
    public StepTimes Average => _steps == 0 ? default : _sum.DividedBy(_steps);

    public void ForwardBegins()
    {
        _forwardBegin = Stopwatch.GetTimestamp();
        (_forwardEnd, _backwardBegin, _backwardEnd, _communicationBegin) = (0, 0, 0, 0);
    }

    public void ForwardEnds() => _forwardEnd = Stopwatch.GetTimestamp();

    /// <summary>Only the first call of a step counts.</summary>
    public void BackwardBegins() => Mark(ref _backwardBegin);

    /// <summary>The backward pass is over: gradients that are still to be averaged are waited for from here on.</summary>
    public void BackwardEnds() => Mark(ref _backwardEnd);

    /// <summary>Only the first call of a step counts.</summary>
    public void CommunicationBegins() => Mark(ref _communicationBegin);

    public void CommunicationEnds()
    {
        if (_backwardBegin == 0 || _forwardBegin == 0)
            return;
        var end = Stopwatch.GetTimestamp();
        var begin = _communicationBegin == 0 ? _backwardEnd : _communicationBegin;
        Last = new StepTimes(
            Span(_forwardBegin, _forwardEnd),
            Span(_backwardBegin, _backwardEnd),
            Span(begin, end),
            Span(begin, _backwardEnd));
        _sum = _sum.Plus(Last);
        _steps++;
        (_backwardBegin, _backwardEnd, _communicationBegin) = (0, 0, 0); // a further backward pass of this forward pass is a step of its own
    }

    private static void Mark(ref long stamp)
    {
        if (stamp == 0)
            stamp = Stopwatch.GetTimestamp();
    }

    private static TimeSpan Span(long begin, long end) => begin == 0 || end <= begin ? TimeSpan.Zero : Stopwatch.GetElapsedTime(begin, end);
}

/// <summary>How long the parts of a training step took on one rank.</summary>
/// <param name="Forward">The forward pass.</param>
/// <param name="Backward">The backward pass, without what was waited for after it.</param>
/// <param name="Communication">From the first bucket that was sent to the last that was averaged.</param>
/// <param name="Overlap">The part of <paramref name="Communication"/> that ran during the backward pass.</param>
public readonly record struct StepTimes(TimeSpan Forward, TimeSpan Backward, TimeSpan Communication, TimeSpan Overlap)
{
    /// <summary>Communication that the backward pass did not hide.</summary>
    public TimeSpan ExposedCommunication => Communication - Overlap;

    internal StepTimes Plus(StepTimes other) =>
        new(Forward + other.Forward, Backward + other.Backward, Communication + other.Communication, Overlap + other.Overlap);

    internal StepTimes DividedBy(long count) => new(Forward / count, Backward / count, Communication / count, Overlap / count);
}
