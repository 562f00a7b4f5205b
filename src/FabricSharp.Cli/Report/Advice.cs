namespace FabricSharp.Cli.Report;

/// <summary>A sentence of advice, and what it rests on.</summary>
internal sealed record Advice(string Title, string Evidence, string Remedy);

/// <summary>What a time line gives reason to advise. Each rule speaks only when its threshold is passed; the thresholds are also in docs/guides/tracing.md.</summary>
internal static class Advisor
{
    /// <summary>Fewer steps say little.</summary>
    public const int FewestSteps = 20;

    /// <summary>Exposed communication, without the wait for later ranks, over the whole step.</summary>
    public const double ExposedShare = 0.10;

    /// <summary>A late rank: so much of a step later than the first, and at least <see cref="LateAtLeastNs"/>, in so many of the steps.</summary>
    public const double LateShare = 0.05, LateSteps = 0.5;
    public const long LateAtLeastNs = 200_000;

    /// <summary>Broadcasts of buffers over the whole step.</summary>
    public const double BuffersShare = 0.05;

    /// <summary>The exchange that a static graph would save, over the whole step.</summary>
    public const double ExchangeShare = 0.01;

    /// <summary>Time outside forward and backward passes over the whole step.</summary>
    public const double BetweenShare = 0.35;

    /// <summary>So many steps without a change before the flag is called idle or the graph static.</summary>
    public const int StepsWithoutChange = 100;

    private const long SmallBucket = 256 * 1024;
    private const int ManyPieces = 16;

    public static IReadOnlyList<Advice> For(ModelTimeline model)
    {
        if (model.Steady.Count == 0)
            return [];
        var rules = new Func<ModelTimeline, Advice?>[] { ExposedCommunication, LateRank, NeverUsed, IdleFlag, CostlyBuffers, StaticGraph, TimeBetween };
        return [.. rules.Select(rule => rule(model)).OfType<Advice>()];
    }

    private static Advice? ExposedCommunication(ModelTimeline model)
    {
        if (model.WorldSize == 1 || model.Steady.Count < FewestSteps)
            return null;
        var period = model.Period;
        var exposed = model.Steady.Average(step => step.Ranks.Average(rank => rank.Exposed - step.WaitForOthers(rank)));
        if (exposed < ExposedShare * period)
            return null;
        var communication = model.Mean(rank => rank.Communication);
        return new Advice(
            "Communication is exposed",
            $"{Text.Duration(exposed)} of each step of {Text.Duration(period)} ({Text.Percent(exposed / period)}) are communication that no backward pass hides; communication takes {Text.Duration(communication)} in all.",
            RemedyForExposed(model));
    }

    private static string RemedyForExposed(ModelTimeline model)
    {
        if (!model.Model.GradientHooks)
            return "Gradient hooks are not available here, so that nothing overlaps: `fabric doctor APP.dll` says why.";
        var layout = model.LayoutOf(model.Steady[^1].Ranks[0]);
        var buckets = layout.Pieces.GroupBy(piece => piece.Bucket).Select(bucket => bucket.Sum(piece => piece.Bytes)).ToList();
        var cap = model.Model.BucketCapBytes / (double)(1 << 20);
        if (model.Model.CommunicationHook is null && layout.Pieces.Count >= ManyPieces && buckets.Average() < SmallBucket)
            return $"The {buckets.Count} buckets have {Text.Bytes(buckets.Average())} on average: try larger ones, bucketCapMb: {Text.Number(Math.Max(1, 8 * cap))}.";
        var total = buckets.Sum();
        if (buckets.Count <= 2 && total > 2 * SmallBucket && layout.Pieces.Count <= 2)
            return $"There {(buckets.Count == 1 ? "is 1 bucket" : "are 2 buckets")} of {Text.Bytes(total)} in all, so that little can overlap: try bucketCapMb: {Text.Number(Math.Max(0.25, Math.Round(total / 4.0 / (1 << 20), 2)))}.";
        return model.Model.CommunicationHook is null
            ? "Try a communication hook that sends half (CommunicationHook.BFloat16()) or PowerSgdHook, or more work per step (a larger batch, gradient accumulation with NoBackwardSync)."
            : $"The hook '{model.Model.CommunicationHook}' averages after the backward pass; compare a run without it, or give each step more work.";
    }

    private static Advice? LateRank(ModelTimeline model)
    {
        if (model.Ranks.Count < 2 || model.Steady.Count < FewestSteps)
            return null;
        var late = model.Steady.Select(step => (Step: step, Last: step.Ranks.MaxBy(step.LatenessOf)!))
            .Where(pair => pair.Step.LatenessOf(pair.Last) is var lateness && lateness >= LateAtLeastNs && lateness >= LateShare * pair.Step.Period && lateness > 2 * model.ClockUncertainty)
            .GroupBy(pair => pair.Last.Rank).MaxBy(group => group.Count());
        if (late is null || late.Count() < LateSteps * model.Steady.Count)
            return null;
        var latenesses = late.Select(pair => pair.Step.LatenessOf(pair.Last)).Order().ToList();
        return new Advice(
            $"Rank {late.Key} is late",
            $"Rank {late.Key} ends its backward pass last, {Text.Duration(latenesses[latenesses.Count / 2])} after the first (median), in {Text.Percent(late.Count() / (double)model.Steady.Count)} of the steps; the others wait for it.",
            "See whether its batches are larger or its branches dearer than the others', and whether other programs run on its processor.");
    }

    private static Advice? NeverUsed(ModelTimeline model)
    {
        var steps = model.Model.Totals.Steps;
        var never = NamesWhere(model, i => model.Model.UnusedEverywhere[i] == steps);
        if (steps < FewestSteps || never.Count == 0)
            return null;
        return new Advice(
            never.Count == 1 ? "A parameter is never used" : $"{never.Count} parameters are never used",
            $"No rank had a gradient for {Text.Few(never)} in any of {Text.Count(steps)} steps.",
            "Freeze them (requires_grad = false before Setup) or remove them, unless a later phase of training uses them.");
    }

    private static Advice? IdleFlag(ModelTimeline model)
    {
        if (!model.Model.FindUnusedParameters || model.Model.Totals.Steps < StepsWithoutChange || model.Model.UnusedSomewhere.Any(count => count > 0))
            return null;
        return new Advice(
            "findUnusedParameters finds nothing",
            $"Every rank used every parameter in all of {Text.Count(model.Model.Totals.Steps)} steps.",
            "Without the flag (strategy: \"ddp\") a parameter that goes unused by mistake would be an error.");
    }

    private static Advice? CostlyBuffers(ModelTimeline model)
    {
        if (model.Model.BroadcastBuffers == 0 || model.Steady.Count < FewestSteps)
            return null;
        var period = model.Period;
        var cost = model.Mean(rank => rank.Buffers);
        if (cost < BuffersShare * period)
            return null;
        return new Advice(
            "Broadcasting buffers is dear",
            $"{Text.Count(model.Model.BroadcastBuffers)} buffers are broadcast before each forward pass, which takes {Text.Duration(cost)} of each step of {Text.Duration(period)} ({Text.Percent(cost / period)}), the wait for rank 0 included.",
            "broadcastBuffers: false leaves each rank its own running statistics; SyncBatchNorm (Fabric.ConvertSyncBatchNorm) keeps them equal.");
    }

    private static Advice? StaticGraph(ModelTimeline model)
    {
        var steps = model.Model.Totals.Steps;
        if (model.Model.StaticGraph || model.Model.CommunicationHook is not null || model.WorldSize == 1 || steps < StepsWithoutChange || model.Steady.Count < FewestSteps || model.Models.Any(rank => !rank.Totals.IsUseConstant))
            return null;
        var period = model.Period;
        var cost = model.Steady.Average(step => step.ExchangeCost);
        if (cost < ExchangeShare * period)
            return null;
        return new Advice(
            "The graph never changes",
            $"Each rank used the same parameters in all of {Text.Count(steps)} steps; telling each other so takes {Text.Duration(cost)} of each step of {Text.Duration(period)}, waiting not included.",
            $"staticGraph: true would save this exchange of {Text.Duration(cost)}, if the same holds for the rest of the training.");
    }

    private static Advice? TimeBetween(ModelTimeline model)
    {
        var steps = model.Steady.Where(step => step.Previous is not null).ToList();
        if (steps.Count < FewestSteps)
            return null;
        var (period, between) = (model.Period, steps.Select(step => step.Between).Order().ElementAt(steps.Count / 2));
        if (between < BetweenShare * period)
            return null;
        return new Advice(
            "Much time passes between steps",
            $"{Text.Duration(between)} of each step of {Text.Duration(period)} ({Text.Percent(between / period)}) lie between the averaged gradients and the next forward pass (median): the optimizer, the data, logging, passes that are not synchronised.",
            "Batches can be made ahead (FabricDataLoader.Prefetch); log and evaluate less often.");
    }

    private static List<string> NamesWhere(ModelTimeline model, Func<int, bool> condition) =>
        [.. Enumerable.Range(0, model.Model.Parameters.Count).Where(condition).Select(i => model.Model.Parameters[i].Name)];
}
