using System.Collections;

namespace FabricSharp.Tracing;

/// <summary>
/// Records the steps of one model on one rank: the last <see cref="StepsKept"/> in full, and sums of all. Memory is bounded: at most
/// <see cref="PiecesKept"/> pieces of a step are recorded, and records are used again. Called by one thread; <see cref="Snapshot"/> by any.
/// </summary>
internal sealed class StepTrace
{
    public const int StepsKept = 256;
    public const int PiecesKept = 1024;

    private const int LayoutsKept = 8;

    private readonly TraceRecorder _recorder;
    private TracedModel _model;
    private readonly long _modelBytes;
    private readonly Lock _gate = new();
    private readonly StepRecord[] _ring = new StepRecord[StepsKept];
    private readonly Queue<TracedLayout> _layouts = new();
    private readonly long[] _unusedHere, _unusedSomewhere, _unusedEverywhere;
    private StepRecord _current;
    private TracedLayout _layout = new(-1, []);
    private StepTotals _totals = new();
    private BitArray? _firstUse;
    private long _steps, _lastEnd = TraceFile.Absent;
    private bool _isUseConstant = true;

    /// <summary>Whether a step has begun and not ended.</summary>
    private bool _isOpen;

    /// <summary>Pieces before this one are known to be done.</summary>
    private int _done;

    public StepTrace(TraceRecorder recorder, TracedModel model)
    {
        _recorder = recorder;
        _model = model;
        _modelBytes = model.Parameters.Sum(parameter => parameter.Bytes);
        _unusedHere = new long[model.Parameters.Count];
        _unusedSomewhere = new long[model.Parameters.Count];
        _unusedEverywhere = new long[model.Parameters.Count];
        _current = new StepRecord(model.Parameters.Count);
    }

    /// <summary>Steps from now on have these pieces.</summary>
    public void LaidOut(IEnumerable<TracedPiece> pieces)
    {
        lock (_gate)
        {
            _layout = new TracedLayout(_layout.Id + 1, [.. pieces]);
            _layouts.Enqueue(_layout);
            if (_layouts.Count > LayoutsKept)
                _layouts.Dequeue();
        }
    }

    /// <summary>Gradients are averaged through this communication hook.</summary>
    public void UsesHook(string name)
    {
        lock (_gate)
            _model = _model with { CommunicationHook = name };
    }

    public void ForwardBegins()
    {
        Open();
        _current.Times[(int)StepMoment.ForwardBegin] = _recorder.Now();
    }

    /// <summary>Only the first call of a step counts, for each moment.</summary>
    public void Mark(StepMoment moment)
    {
        if (!_isOpen)
            Open();
        ref var time = ref _current.Times[(int)moment];
        if (time == TraceFile.Absent)
            time = _recorder.Now();
    }

    public void Ready(int piece)
    {
        if (piece < _current.PieceCount)
            _current.Pieces[piece].Ready = _recorder.Now();
    }

    public void Launched(int piece, long bytes)
    {
        if (piece >= _current.PieceCount || bytes == 0)
            return;
        _current.Pieces[piece].Launched = _recorder.Now();
        _current.Pieces[piece].Bytes = bytes;
        _current.BytesSent += bytes;
    }

    public void Done(int piece)
    {
        if (piece >= _current.PieceCount || _current.Pieces[piece] is not { Launched: not TraceFile.Absent, Done: TraceFile.Absent })
            return;
        _current.Pieces[piece].Done = _recorder.Now();
    }

    /// <summary>Notes which of the first <paramref name="launched"/> pieces have been averaged since the last look; they are so in order.</summary>
    public void Look(int launched, Func<int, bool> isDone)
    {
        while (_done < launched && isDone(_done))
            Done(_done++);
    }

    public void Used(BitArray here, BitArray byAll, BitArray byAny)
    {
        here.CopyTo(_current.UsedHere, 0);
        byAll.CopyTo(_current.UsedByAll, 0);
        byAny.CopyTo(_current.UsedByAny, 0);
        _current.HasUse = true;
        if (_firstUse is null)
            _firstUse = new BitArray(here);
        else if (_isUseConstant && new BitArray(_firstUse).Xor(here).HasAnySet())
            _isUseConstant = false;
        if (!byAll.HasAllSet())
            CountUnused(here, byAll, byAny);
    }

    /// <summary>The gradients are averaged.</summary>
    public void StepEnds()
    {
        if (!_isOpen)
            return;
        if (!_current.HasUse)
        {
            _isOpen = false; // nothing was averaged: the backward pass of another model
            return;
        }

        _current.Times[(int)StepMoment.End] = _recorder.Now();
        lock (_gate)
        {
            _current.Number = ++_steps;
            Add(_current);
            ref var place = ref _ring[(_steps - 1) % StepsKept];
            (place, _current) = (_current, place ?? new StepRecord(_model.Parameters.Count));
            _isOpen = false;
        }

        _recorder.Changed();
    }

    /// <summary>Writes what there is, with the reason of the failure.</summary>
    public void Failed(string message) => _recorder.Fail(message);

    public void Close() => _recorder.SaveQuietly();

    /// <summary>What was recorded so far, with the step that is under way where <paramref name="withOpen"/>.</summary>
    public TracedModel Snapshot(bool withOpen)
    {
        lock (_gate)
        {
            var kept = (int)Math.Min(_steps, StepsKept);
            var steps = Enumerable.Range(0, kept).Select(i => _ring[(_steps - kept + i) % StepsKept].ToStep()).ToList();
            if (withOpen && _isOpen)
                steps.Add(_current.ToStep() with { Number = _steps + 1 });
            return _model with
            {
                Layouts = [.. _layouts],
                Totals = _totals with { IsUseConstant = _isUseConstant },
                UnusedHere = [.. _unusedHere],
                UnusedSomewhere = [.. _unusedSomewhere],
                UnusedEverywhere = [.. _unusedEverywhere],
                Steps = [.. steps.Where(step => _layouts.Any(layout => layout.Id == step.Layout))],
            };
        }
    }

    private void Open()
    {
        lock (_gate)
        {
            _current.Reset(_layout.Id, _layout.Pieces.Count);
            _done = 0;
            _isOpen = true;
        }
    }

    private void CountUnused(BitArray here, BitArray byAll, BitArray byAny)
    {
        for (var i = 0; i < _unusedHere.Length; i++)
        {
            if (byAll[i])
                continue;
            _unusedSomewhere[i]++;
            _unusedHere[i] += here[i] ? 0 : 1;
            _unusedEverywhere[i] += byAny[i] ? 0 : 1;
        }
    }

    private void Add(StepRecord step)
    {
        var end = step[StepMoment.End];
        var launch = step.FirstLaunch();
        var begin = launch != TraceFile.Absent ? launch : step[StepMoment.BackwardEnd];
        _totals = _totals with
        {
            Steps = _steps,
            ForwardNs = _totals.ForwardNs + step.Span(StepMoment.ForwardBegin, StepMoment.ForwardEnd),
            BuffersNs = _totals.BuffersNs + step.Span(StepMoment.ForwardBegin, StepMoment.BuffersEnd),
            BackwardNs = _totals.BackwardNs + step.Span(StepMoment.BackwardBegin, StepMoment.BackwardEnd),
            CommunicationNs = _totals.CommunicationNs + (begin == TraceFile.Absent ? 0 : end - begin),
            ExposedNs = _totals.ExposedNs + step.Span(StepMoment.BackwardEnd, StepMoment.End),
            ExchangeNs = _totals.ExchangeNs + step.Span(StepMoment.ExchangeBegin, StepMoment.ExchangeEnd),
            BetweenNs = _totals.BetweenNs + (_lastEnd == TraceFile.Absent || step[StepMoment.ForwardBegin] < _lastEnd ? 0 : step[StepMoment.ForwardBegin] - _lastEnd),
            BytesSent = _totals.BytesSent + step.BytesSent,
            BytesSaved = _totals.BytesSaved + (_recorder.WorldSize == 1 ? 0 : Math.Max(0, _modelBytes - step.BytesSent)),
            PiecesLeftOut = _totals.PiecesLeftOut + step.PiecesLeftOut,
        };
        _lastEnd = end;
    }

    private sealed class StepRecord(int parameters)
    {
        private int _layout;

        public long Number { get; set; }

        public long[] Times { get; } = new long[Enum.GetValues<StepMoment>().Length];

        public PieceTimes[] Pieces { get; private set; } = [];

        public int PieceCount { get; private set; }

        public int PiecesLeftOut { get; private set; }

        public byte[] UsedHere { get; } = new byte[(parameters + 7) / 8];

        public byte[] UsedByAll { get; } = new byte[(parameters + 7) / 8];

        public byte[] UsedByAny { get; } = new byte[(parameters + 7) / 8];

        public bool HasUse { get; set; }

        public long BytesSent { get; set; }

        public long this[StepMoment moment] => Times[(int)moment];

        public void Reset(int layout, int pieces)
        {
            _layout = layout;
            PiecesLeftOut = Math.Max(0, pieces - PiecesKept);
            pieces -= PiecesLeftOut;
            if (Pieces.Length < pieces)
                Pieces = new PieceTimes[pieces];
            PieceCount = pieces;
            Times.AsSpan().Fill(TraceFile.Absent);
            Pieces.AsSpan().Fill(new PieceTimes { Ready = TraceFile.Absent, Launched = TraceFile.Absent, Done = TraceFile.Absent });
            HasUse = false;
            BytesSent = 0;
        }

        public long Span(StepMoment begin, StepMoment end) =>
            this[begin] == TraceFile.Absent || this[end] < this[begin] ? 0 : this[end] - this[begin];

        public long FirstLaunch()
        {
            var first = TraceFile.Absent;
            foreach (var piece in Pieces.AsSpan(0, PieceCount))
                if (piece.Launched != TraceFile.Absent && (first == TraceFile.Absent || piece.Launched < first))
                    first = piece.Launched;
            return first;
        }

        public TracedStep ToStep()
        {
            var pieces = new long[PieceCount * TracedStep.NumbersPerPiece];
            for (var i = 0; i < PieceCount; i++)
                (pieces[4 * i], pieces[4 * i + 1], pieces[4 * i + 2], pieces[4 * i + 3]) = (Pieces[i].Ready, Pieces[i].Launched, Pieces[i].Done, Pieces[i].Bytes);
            return new TracedStep(Number, _layout, [.. Times], pieces, HasUse ? [.. UsedHere] : null, HasUse ? [.. UsedByAll] : null, HasUse ? [.. UsedByAny] : null);
        }
    }

    private struct PieceTimes
    {
        public long Ready, Launched, Done, Bytes;
    }
}
