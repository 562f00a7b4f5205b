using FabricSharp.DataParallel;
using FabricSharp.Tests.DataParallel;
using FabricSharp.Tracing;

namespace FabricSharp.Tests.Tracing;

/// <summary>What a reducer records while ranks, as threads, train.</summary>
public sealed class ReducerTraceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Steps_OfTwoRanks_AreInEachRanksFileInOrderAndNested()
    {
        Replica<Branchy>.Run(2, () => new Branchy(), replica => Train(replica, 5), Options());
        var files = ReadBoth();
        Assert.Equal(files[0].Run, files[1].Run);
        foreach (var file in files)
        {
            Assert.Null(file.Failure);
            var model = Assert.Single(file.Models);
            Assert.Equal(("Branchy", 8, 5L), (model.Name, model.Parameters.Count, model.Totals.Steps));
            Assert.Equal([1, 2, 3, 4, 5], model.Steps.Select(step => step.Number));
            Assert.Equal([0, 1], model.Steps.Select(step => step.Layout).Distinct().Order()); // buckets are rebuilt after the first
            Assert.All(model.Steps, step => RequireNested(step, model));
        }
    }

    [Fact]
    public void Steps_WithAlignedClocks_EndOnNoRankBeforeTheExchangeBeganOnAll()
    {
        Replica<Branchy>.Run(2, () => new Branchy(), replica => Train(replica, 5), Options());
        var files = ReadBoth();
        for (var i = 0; i < 5; i++)
        {
            var lastBegin = files.Max(file => file.Models[0].Steps[i][StepMoment.ExchangeBegin] + file.Clock.OffsetNs);
            var firstEnd = files.Min(file => file.Models[0].Steps[i][StepMoment.ExchangeEnd] + file.Clock.OffsetNs);
            Assert.True(lastBegin <= firstEnd + files.Max(file => file.Clock.UncertaintyNs));
        }
    }

    [Fact]
    public void Use_OfEachStep_IsThatOfTheReport()
    {
        Replica<Branchy>.Run(2, () => new Branchy(), replica => Train(replica, 4), Options());
        var (zero, one) = (ReadBoth()[0].Models[0], ReadBoth()[1].Models[0]);
        var b = zero.Parameters.Select(parameter => parameter.Name).ToList().IndexOf("b.weight");
        var c = zero.Parameters.Select(parameter => parameter.Name).ToList().IndexOf("c.weight");
        Assert.Equal([0, 4, 4], new[] { zero.UnusedHere[b], one.UnusedHere[b], zero.UnusedSomewhere[b] });
        Assert.Equal(4, zero.UnusedEverywhere[c]);
        Assert.All(zero.Steps, step => Assert.Equal((1, 0, 0), (Bit(step.UsedHere!, b), Bit(step.UsedByAll!, b), Bit(step.UsedByAny!, c))));
        Assert.True(zero.Totals.BytesSent > 0);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void StaticGraphOrHook_Steps_AreRecorded(bool isStatic)
    {
        var options = isStatic ? new DDPOptions { StaticGraph = true, Trace = _folder.Path } : Options() with { CommunicationHook = CommunicationHook.AllReduce };
        Replica<Branchy>.Run(2, () => new Branchy(), replica => Train(replica, 4), options);
        var model = ReadBoth()[1].Models[0];
        Assert.Equal(4, model.Totals.Steps);
        Assert.Equal(isStatic ? 1 : 4, model.Steps.Count(step => step[StepMoment.ExchangeBegin] != TraceFile.Absent));
        Assert.All(model.Steps, step => Assert.Contains(step.Pieces.Chunk(4), piece => piece[1] != TraceFile.Absent && piece[2] >= piece[1]));
        Assert.Equal(isStatic, model.CommunicationHook is null);
    }

    [Fact]
    public void Buffers_ThatAreBroadcast_HaveAnEnd()
    {
        Replica<TorchSharp.Modules.BatchNorm1d>.Run(2, () => TorchSharp.torch.nn.BatchNorm1d(3), replica =>
        {
            replica.Reducer.BeforeForward();
            var loss = replica.Module.call(TorchSharp.torch.rand(4, 3)).pow(2).mean();
            replica.Reducer.AfterForward();
            replica.Reducer.BeforeBackward();
            loss.backward();
            replica.Reducer.AfterBackward();
        }, Options());
        var model = ReadBoth()[0].Models[0];
        Assert.Equal(3, model.BroadcastBuffers);
        Assert.InRange(model.Steps[0][StepMoment.BuffersEnd], model.Steps[0][StepMoment.ForwardBegin], model.Steps[0][StepMoment.ForwardEnd]);
    }

    [Fact]
    public void Failure_OfTheReduction_IsInEveryRanksFile()
    {
        var failures = Replica<Branchy>.RunEach(2, () => new Branchy(), replica =>
        {
            replica.Pass(Branchy.Loss("a", replica.Rank));
            replica.Reducer.BeforeStep();
        }, new DDPOptions { Trace = _folder.Path });
        Assert.All(failures, failure => Assert.IsType<UnfinishedReductionException>(failure));
        Assert.All(ReadBoth(), file => Assert.StartsWith("Expected to have finished reduction", file.Failure));
    }

    [Fact]
    public void Trace_OnOneRankOnly_IsRefusedOnBoth()
    {
        var failures = Collectives.GroupOfThreads.RunEach("shm", 2, group =>
        {
            using var reducer = new GradientReducer(new Branchy(), group, group.Rank == 0 ? Options() : new DDPOptions { FindUnusedParameters = true }, []);
        });
        Assert.All(failures, failure => Assert.Contains("trace", Assert.IsType<InvalidOperationException>(failure).Message));
    }

    [Fact]
    public void Off_Training_WritesNothing()
    {
        Replica<Branchy>.Run(2, () => new Branchy(), replica => Train(replica, 2), new DDPOptions { FindUnusedParameters = true });
        Assert.Empty(Directory.GetFileSystemEntries(_folder.Path));
    }

    [Fact]
    public void Strategy_Trace_ReachesTheRanksThatAreThreads()
    {
        var strategy = new FabricSharp.Strategies.DDPStrategy(startMethod: FabricSharp.Strategies.StartMethod.Notebook) { Trace = _folder.Path };
        Ranks.Run(2, rank =>
        {
            var net = TorchSharp.torch.nn.Linear(3, 1);
            var (model, optimizer) = rank.Setup(net, TorchSharp.torch.optim.SGD(net.parameters(), 0.1));
            rank.Backward(model.call(TorchSharp.torch.ones(2, 3)).mean());
            optimizer.step();
        }, strategy);
        Assert.All(ReadBoth(), file => Assert.Equal(1, file.Models[0].Totals.Steps));
    }

    private DDPOptions Options() => new() { FindUnusedParameters = true, Trace = _folder.Path };

    /// <summary>Rank 0 uses branches a and b, rank 1 only a; nobody c.</summary>
    private static void Train(Replica<Branchy> replica, int steps)
    {
        for (var step = 0; step < steps; step++)
        {
            replica.ZeroGradients();
            replica.Reducer.BeforeForward();
            var loss = Branchy.Loss(replica.Rank == 0 ? "ab" : "a", replica.Rank, step)(replica.Module);
            replica.Reducer.AfterForward();
            replica.Reducer.BeforeBackward();
            loss.backward();
            replica.Reducer.AfterBackward();
            replica.Reducer.BeforeStep();
        }
    }

    private List<TraceFile> ReadBoth() => [.. Enumerable.Range(0, 2).Select(rank => TraceReader.Read(_folder[TraceFile.NameFor(rank)]))];

    private static void RequireNested(TracedStep step, TracedModel model)
    {
        var present = step.Times.Where(time => time != TraceFile.Absent).ToList();
        Assert.Equal(9, present.Count); // no buffers
        Assert.Equal(present.Order(), present);
        Assert.Equal(model.Layouts.Single(layout => layout.Id == step.Layout).Pieces.Count * 4, step.Pieces.Count);
        var launched = step.Pieces.Chunk(4).Where(piece => piece[1] != TraceFile.Absent).ToList();
        Assert.NotEmpty(launched);
        foreach (var piece in launched)
        {
            Assert.InRange(piece[1], step[StepMoment.BackwardBegin], step[StepMoment.End]);
            Assert.InRange(piece[2], piece[1], step[StepMoment.End]);
            Assert.True(piece[0] == TraceFile.Absent || (piece[0] >= step[StepMoment.BackwardBegin] && piece[0] <= piece[1]));
        }
    }

    private static int Bit(byte[] bits, int index) => bits[index / 8] >> (index % 8) & 1;
}
