using System.Text.Json;
using FabricSharp.Data;
using FabricSharp.Precision;
using static TorchSharp.torch.optim.lr_scheduler;

namespace FabricSharp.Checkpointing;

/// <summary>What a training loop has besides models and optimizers, as JSON.</summary>
internal static class TrainingState
{
    /// <summary>The kind of an object of the loop; null for anything else.</summary>
    public static EntryKind? KindOf(object? value) => value switch
    {
        LRScheduler => EntryKind.Scheduler,
        GradScaler => EntryKind.GradScaler,
        DistributedSampler => EntryKind.Sampler,
        IResumableLoader => EntryKind.DataLoader,
        RandomState => EntryKind.Random,
        _ => null,
    };

    /// <summary>What rank 0 writes.</summary>
    /// <param name="ranks">Every rank's own parts.</param>
    /// <param name="key">The user's name of it.</param>
    /// <param name="value">Of one of the kinds.</param>
    public static JsonElement Save(IReadOnlyList<byte[]> ranks, string key, object value) => value switch
    {
        LRScheduler scheduler => SchedulerState.Save(scheduler),
        GradScaler scaler => JsonSerializer.SerializeToElement(scaler.State, OptimizerDescription.Json),
        DistributedSampler sampler => JsonSerializer.SerializeToElement(new SamplerState(sampler.Epoch), OptimizerDescription.Json),
        _ => RankParts.Collect(ranks, key),
    };

    /// <summary>Checks that <paramref name="entry"/> fits.</summary>
    /// <param name="entry">Of the kind of <paramref name="target"/>.</param>
    /// <param name="target">Of one of the kinds.</param>
    /// <param name="rank">Which rank this is, and of how many.</param>
    /// <param name="what">The entry, for messages.</param>
    /// <param name="warn">Told what is not as it was saved.</param>
    /// <returns>Brings it into the object.</returns>
    /// <exception cref="CheckpointException">It does not fit.</exception>
    public static Action PlanLoad(StoredEntry entry, object target, RankOf rank, string what, Action<string> warn)
    {
        try
        {
            return target switch
            {
                LRScheduler scheduler => SchedulerState.PlanLoad(scheduler, entry.Value, what),
                GradScaler scaler => PlanScaler(scaler, Read<GradScalerState>(entry.Value)),
                DistributedSampler sampler => PlanSampler(sampler, Read<SamplerState>(entry.Value)),
                IResumableLoader loader => PlanLoader(loader, Own(entry.Value, rank), what, warn),
                RandomState random when entry.Value.GetArrayLength() == rank.Count => random.PlanRestore(Own(entry.Value, rank), what),
                _ => Nothing(() => warn($"{what} is of {entry.Value.GetArrayLength()} ranks, there are {rank.Count} now: the random number generators stay as they are. Seed them.")),
            };
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentException or IndexOutOfRangeException)
        {
            throw new CheckpointException($"{what} does not fit: {e.Message}{(e.Message.EndsWith('.') ? "" : ".")} Nothing was changed.", e);
        }
    }

    private static Action PlanScaler(GradScaler scaler, GradScalerState state)
    {
        new GradScaler().LoadState(state); // throws where it is none
        return () => scaler.LoadState(state);
    }

    private static Action PlanSampler(DistributedSampler sampler, SamplerState state)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(state.Epoch);
        return () => sampler.SetEpoch(state.Epoch);
    }

    private static Action PlanLoader(IResumableLoader loader, JsonElement stored, string what, Action<string> warn)
    {
        var state = Read<DataLoaderState>(stored);
        var (here, isExact) = loader.Translate(state);
        if (!isExact)
            warn($"{what} lies after {state.Batches} batches of {state.BatchSize} on {state.Ranks} ranks, which is inside a batch of {here.BatchSize} on {here.Ranks} ranks: the epoch goes on with batch {here.Batches}, and the items at its beginning are visited again.");
        return () => loader.LoadState(state);
    }

    private static Action Nothing(Action warn)
    {
        warn();
        return () => { };
    }

    /// <summary>With another number of ranks the parts cannot be told apart any more: then rank 0's stands for all.</summary>
    private static JsonElement Own(JsonElement ranks, RankOf rank) => ranks[ranks.GetArrayLength() == rank.Count ? rank.Rank : 0];

    private static T Read<T>(JsonElement element) => element.Deserialize<T>(OptimizerDescription.Json) ?? throw new JsonException("it is null");

    private sealed record SamplerState(int Epoch);
}

/// <summary>Which rank of how many.</summary>
/// <param name="Rank">From 0.</param>
/// <param name="Count">Of how many.</param>
internal readonly record struct RankOf(int Rank, int Count)
{
    /// <summary>A program that has one rank only.</summary>
    public static RankOf One => new(0, 1);
}
