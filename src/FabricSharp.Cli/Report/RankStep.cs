using FabricSharp.Tracing;

namespace FabricSharp.Cli.Report;

/// <summary>One step on one rank, in nanoseconds of rank 0's clock.</summary>
internal sealed class RankStep
{
    private readonly TracedStep _step;
    private readonly long _offset;

    public RankStep(TracedStep step, int rank, long offset)
    {
        _step = step;
        _offset = offset;
        Rank = rank;
        Pieces = [.. step.Pieces.Chunk(TracedStep.NumbersPerPiece).Select((numbers, i) => new PieceSpan(i, Aligned(numbers[0]), Aligned(numbers[1]), Aligned(numbers[2]), Math.Max(0, numbers[3])))];
    }

    public int Rank { get; }

    public long Number => _step.Number;

    public int Layout => _step.Layout;

    public IReadOnlyList<PieceSpan> Pieces { get; }

    /// <summary>When it began: with the forward pass where there was one.</summary>
    public long Begin => Enumerable.Range(0, (int)StepMoment.End + 1).Select(i => this[(StepMoment)i]).First(time => time is not null)!.Value;

    public long End => this[StepMoment.End]!.Value;

    public long Forward => Span(StepMoment.ForwardBegin, StepMoment.ForwardEnd);

    public long Buffers => Span(StepMoment.ForwardBegin, StepMoment.BuffersEnd);

    public long Backward => Span(StepMoment.BackwardBegin, StepMoment.BackwardEnd);

    public long Exchange => Span(StepMoment.ExchangeBegin, StepMoment.ExchangeEnd);

    /// <summary>What the backward pass did not hide, the wait for later ranks included.</summary>
    public long Exposed => Span(StepMoment.BackwardEnd, StepMoment.End);

    /// <summary>From the first launch to the end.</summary>
    public long Communication => Math.Max(0, End - (Pieces.Select(piece => piece.Launched).Append(this[StepMoment.BackwardEnd]).Min() ?? End));

    public long Overlap => Math.Max(0, Communication - Exposed);

    public long BytesSent => Pieces.Sum(piece => piece.Bytes);

    public long? this[StepMoment moment] => Aligned(_step[moment]);

    /// <summary>Whether this rank, all ranks, some rank had a gradient for a parameter; null where it is not known.</summary>
    public (bool Here, bool ByAll, bool ByAny)? UseOf(int parameter) =>
        _step is { UsedHere: { } here, UsedByAll: { } all, UsedByAny: { } any } ? (Bit(here, parameter), Bit(all, parameter), Bit(any, parameter)) : null;

    private long Span(StepMoment begin, StepMoment end) => this[begin] is { } from && this[end] is { } to ? Math.Max(0, to - from) : 0;

    private long? Aligned(long time) => time == TraceFile.Absent ? null : time + _offset;

    private static bool Bit(byte[] bits, int index) => (bits[index / 8] >> (index % 8) & 1) != 0;
}

/// <summary>When a piece was ready, launched and done; null where that did not happen, or no one saw it.</summary>
internal sealed record PieceSpan(int Number, long? Ready, long? Launched, long? Done, long Bytes);
