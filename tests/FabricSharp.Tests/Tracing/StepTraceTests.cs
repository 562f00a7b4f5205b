using System.Collections;
using FabricSharp.Tracing;

namespace FabricSharp.Tests.Tracing;

/// <summary>One rank's recorder, by a clock that goes on by one at each look.</summary>
public sealed class StepTraceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly TraceRecorder _recorder;
    private long _time;

    public StepTraceTests() => _recorder = new TraceRecorder(_folder.Path, 0, 1, "shm", (mine, all) => mine.CopyTo(all), () => ++_time);

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Step_EachMomentAndPiece_IsRecordedInOrder()
    {
        var trace = Begin(pieces: 2);
        Step(trace, launch: [0, 1]);
        var step = Assert.Single(trace.Snapshot(withOpen: false).Steps);
        Assert.Equal(1, step.Number);
        Assert.True(step.IsComplete);
        Assert.Equal(TraceFile.Absent, step[StepMoment.BuffersEnd]);
        var present = step.Times.Where(time => time != TraceFile.Absent).ToList();
        Assert.Equal(present.Order(), present);
        foreach (var piece in step.Pieces.Chunk(TracedStep.NumbersPerPiece))
        {
            Assert.True(step[StepMoment.BackwardBegin] < piece[0] && piece[0] < piece[1] && piece[1] < piece[2] && piece[2] < step[StepMoment.End]);
            Assert.Equal(10, piece[3]);
        }
    }

    [Fact]
    public void Mark_Twice_KeepsTheFirst()
    {
        var trace = Begin(pieces: 1);
        trace.ForwardBegins();
        trace.Mark(StepMoment.BackwardBegin);
        var first = trace.Snapshot(withOpen: true).Steps[0][StepMoment.BackwardBegin];
        trace.Mark(StepMoment.BackwardBegin);
        Assert.Equal(first, trace.Snapshot(withOpen: true).Steps[0][StepMoment.BackwardBegin]);
    }

    [Fact]
    public void Steps_MoreThanAreKept_TheLastAndTheSumsOfAll()
    {
        var trace = Begin(pieces: 1);
        for (var i = 0; i < StepTrace.StepsKept + 44; i++)
            Step(trace, launch: [0]);
        var model = trace.Snapshot(withOpen: false);
        Assert.Equal(Enumerable.Range(45, StepTrace.StepsKept).Select(i => (long)i), model.Steps.Select(step => step.Number));
        Assert.Equal(StepTrace.StepsKept + 44, model.Totals.Steps);
        Assert.Equal(10 * model.Totals.Steps, model.Totals.BytesSent);
        Assert.Equal(model.Totals.Steps * (model.Steps[0][StepMoment.End] - model.Steps[0][StepMoment.BackwardEnd]), model.Totals.ExposedNs);
    }

    [Fact]
    public void Record_ManySteps_ReusesMemory()
    {
        var trace = Begin(pieces: 8);
        for (var i = 0; i < StepTrace.StepsKept + 1; i++)
            Step(trace, launch: [0]);
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1000; i++)
            Step(trace, launch: [0]);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1000 * 1024); // sums, and the bits that the test makes
    }

    [Fact]
    public void Pieces_MoreThanAreKept_AreCounted()
    {
        var trace = Begin(pieces: StepTrace.PiecesKept + 5);
        Step(trace, launch: [0, StepTrace.PiecesKept + 4]);
        var model = trace.Snapshot(withOpen: false);
        Assert.Equal(StepTrace.PiecesKept * TracedStep.NumbersPerPiece, model.Steps[0].Pieces.Count);
        Assert.Equal(5, model.Totals.PiecesLeftOut);
    }

    [Fact]
    public void Layouts_ManyRebuilds_KeepsThoseThatStepsReferTo()
    {
        var trace = Begin(pieces: 1);
        for (var i = 0; i < 20; i++)
        {
            Step(trace, launch: [0]);
            trace.LaidOut([new TracedPiece(0, [0, 1], 20)]);
        }

        var model = trace.Snapshot(withOpen: false);
        Assert.InRange(model.Layouts.Count, 1, 8);
        Assert.NotEmpty(model.Steps);
        Assert.Superset(model.Steps.Select(step => step.Layout).ToHashSet(), model.Layouts.Select(layout => layout.Id).ToHashSet());
    }

    [Fact]
    public void Use_ThatChanges_IsCountedAndNoLongerConstant()
    {
        var trace = Begin(pieces: 1);
        Step(trace, launch: [0]);
        Assert.True(trace.Snapshot(withOpen: false).Totals.IsUseConstant);
        Step(trace, launch: [0], use: [true, false]);
        var model = trace.Snapshot(withOpen: false);
        Assert.False(model.Totals.IsUseConstant);
        Assert.Equal([0, 1], model.UnusedEverywhere);
        Assert.Equal([1], model.Steps[1].UsedByAny!);
    }

    [Fact]
    public void Step_ThatAveragedNothing_IsNoStep()
    {
        var trace = Begin(pieces: 1);
        trace.ForwardBegins();
        trace.Mark(StepMoment.BackwardBegin);
        trace.StepEnds();
        Assert.Empty(trace.Snapshot(withOpen: true).Steps);
    }

    [Fact]
    public void Fail_InTheMiddleOfAStep_WritesTheReasonAndTheOpenStep()
    {
        var trace = Begin(pieces: 1);
        Step(trace, launch: [0]);
        trace.ForwardBegins();
        trace.Failed("rank 1 left\nmore");
        var file = TraceReader.Read(_recorder.Path);
        Assert.Equal("rank 1 left", file.Failure);
        Assert.Equal([true, false], file.Models[0].Steps.Select(step => step.IsComplete));
    }

    [Fact]
    public void Close_Twice_WritesOnceAndLeavesNoOtherFile()
    {
        var trace = Begin(pieces: 1);
        Step(trace, launch: [0]);
        trace.Close();
        Assert.Equal([_recorder.Path], Directory.GetFiles(_folder.Path));
        File.Delete(_recorder.Path);
        trace.Close();
        Assert.False(File.Exists(_recorder.Path));
    }

    [Fact]
    public void Close_FolderIsAFile_OnlyWarns()
    {
        File.WriteAllText(_folder["taken"], "");
        var recorder = new TraceRecorder(_folder["taken"], 0, 1, "shm", (mine, all) => mine.CopyTo(all));
        var trace = recorder.Begin(Model());
        Step(trace, launch: []);
        Assert.False(recorder.TrySave(TimeSpan.FromSeconds(5)));
        trace.Close();
        Step(trace, launch: []); // training goes on
        Assert.Equal(2, trace.Snapshot(withOpen: false).Totals.Steps);
    }

    private static TracedModel Model() => new()
    {
        Name = "Net",
        FindUnusedParameters = true,
        StaticGraph = false,
        GradientHooks = true,
        BroadcastBuffers = 0,
        CommunicationHook = null,
        BucketCapBytes = 1 << 20,
        Parameters = [new("a.weight", 10), new("a.bias", 10)],
    };

    private StepTrace Begin(int pieces)
    {
        var trace = _recorder.Begin(Model());
        trace.LaidOut(Enumerable.Range(0, pieces).Select(i => new TracedPiece(i, [0], 10)));
        return trace;
    }

    private static void Step(StepTrace trace, int[] launch, bool[]? use = null)
    {
        trace.ForwardBegins();
        trace.Mark(StepMoment.ForwardEnd);
        trace.Mark(StepMoment.BackwardBegin);
        foreach (var piece in launch)
        {
            trace.Ready(piece);
            trace.Launched(piece, 10);
        }

        trace.Mark(StepMoment.BackwardEnd);
        trace.Mark(StepMoment.ExchangeBegin);
        trace.Mark(StepMoment.ExchangeEnd);
        var bits = new BitArray(use ?? [true, true]);
        trace.Used(bits, bits, bits);
        foreach (var piece in launch)
            trace.Done(piece);
        trace.StepEnds();
    }
}
