using FabricSharp.Tracing;

namespace FabricSharp.Cli.Report;

/// <summary>The steps of one model, on all ranks by one clock.</summary>
internal sealed class ModelTimeline
{
    /// <summary>Steps in which code is compiled and buckets are rebuilt; left out of figures where there are enough others.</summary>
    private const int WarmUpSteps = 3, EnoughSteps = 10;

    private ModelTimeline(IReadOnlyList<TraceFile> ranks, IReadOnlyList<TracedModel> models)
    {
        Ranks = ranks;
        Models = models;
        var byNumber = Enumerable.Range(0, ranks.Count).Select(i => models[i].Steps.ToDictionary(step => step.Number)).ToList();
        var shared = byNumber[0].Where(pair => byNumber.TrueForAll(steps => steps.TryGetValue(pair.Key, out var step) && step.IsComplete)).Select(pair => pair.Key).Order();
        Steps = [.. shared.Select(number => new RunStep(number, [.. byNumber.Select((steps, i) => new RankStep(steps[number], ranks[i].Rank, ranks[i].Clock.OffsetNs))]))];
        for (var i = 1; i < Steps.Count; i++)
            if (Steps[i].Number == Steps[i - 1].Number + 1)
                Steps[i].Previous = Steps[i - 1];
        var steady = Steps.Where(step => step.Number > WarmUpSteps).ToList();
        Steady = steady.Count >= EnoughSteps ? steady : Steps;
        Unfinished = [.. Enumerable.Range(0, ranks.Count).Select(i => models[i].Steps.LastOrDefault(step => !step.IsComplete) is { } step ? new RankStep(step, ranks[i].Rank, ranks[i].Clock.OffsetNs) : null).OfType<RankStep>()];
    }

    public IReadOnlyList<TraceFile> Ranks { get; }

    /// <summary>The model on each rank, in the order of <see cref="Ranks"/>.</summary>
    public IReadOnlyList<TracedModel> Models { get; }

    public TracedModel Model => Models[0];

    public int WorldSize => Ranks[0].WorldSize;

    /// <summary>Steps that all ranks have recorded to their end, in order.</summary>
    public IReadOnlyList<RunStep> Steps { get; }

    /// <summary>Those that figures are taken from.</summary>
    public IReadOnlyList<RunStep> Steady { get; }

    /// <summary>Steps that were under way when a rank's file was written.</summary>
    public IReadOnlyList<RankStep> Unfinished { get; }

    /// <summary>How far times of different ranks can be off.</summary>
    public long ClockUncertainty => Ranks.Max(rank => rank.Clock.UncertaintyNs);

    /// <summary>The median length of a step: a long evaluation now and then does not count.</summary>
    public double Period => Typical?.Period ?? 0;

    /// <summary>A step of median length.</summary>
    public RunStep? Typical => Steady.OrderBy(step => step.Period).ElementAtOrDefault(Steady.Count / 2);

    public RunStep? Slowest => Steady.MaxBy(step => step.Period);

    public static IReadOnlyList<ModelTimeline> Of(RecordedRun run)
    {
        var count = run.Ranks.Min(rank => rank.Models.Count);
        if (run.Ranks.Any(rank => rank.Models.Count != count || !rank.Models.Select(model => (model.Name, model.Parameters.Count)).SequenceEqual(run.Ranks[0].Models.Select(model => (model.Name, model.Parameters.Count)))))
            throw new InvalidDataException($"The files in '{run.Folder}' do not belong together: their ranks have different models.");
        return [.. Enumerable.Range(0, count).Select(i => new ModelTimeline(run.Ranks, [.. run.Ranks.Select(rank => rank.Models[i])]))];
    }

    /// <summary>The pieces of a step's layout.</summary>
    public TracedLayout LayoutOf(RankStep step) => Models[Index(step.Rank)].Layouts.First(layout => layout.Id == step.Layout);

    public double Mean(Func<RankStep, double> value) => Steady.Count == 0 ? 0 : Steady.Average(step => step.Ranks.Average(value));

    private int Index(int rank) => Ranks.TakeWhile(file => file.Rank != rank).Count();
}

/// <summary>One step on all ranks.</summary>
internal sealed class RunStep(long number, IReadOnlyList<RankStep> ranks)
{
    public long Number { get; } = number;

    public IReadOnlyList<RankStep> Ranks { get; } = ranks;

    /// <summary>The step before, where it is recorded.</summary>
    public RunStep? Previous { get; set; }

    public long Begin => Ranks.Min(rank => rank.Begin);

    public long End => Ranks.Max(rank => rank.End);

    /// <summary>From the end of the step before to this one's, mean over the ranks; without a step before, this one alone.</summary>
    public double Period => Ranks.Average(rank => rank.End - rank.Begin) + Between;

    /// <summary>From the end of the step before to the begin of this one, mean over the ranks: the optimizer, the data, all else.</summary>
    public double Between => Previous is null ? 0 : Ranks.Zip(Previous.Ranks, (now, before) => Math.Max(0, now.Begin - before.End)).Average();

    /// <summary>How much later than the first rank <paramref name="rank"/> ended its backward pass.</summary>
    public long LatenessOf(RankStep rank) => BackwardEnd(rank) - Ranks.Min(BackwardEnd);

    /// <summary>The part of what a rank's backward pass did not hide in which a later rank was still computing.</summary>
    public long WaitForOthers(RankStep rank) => Math.Clamp(Ranks.Max(BackwardEnd) - BackwardEnd(rank), 0, rank.Exposed);

    /// <summary>What the exchange costs a rank that need not wait for others.</summary>
    public long ExchangeCost => Ranks.Min(rank => rank.Exchange);

    private static long BackwardEnd(RankStep rank) => rank[StepMoment.BackwardEnd] ?? rank.End;
}
