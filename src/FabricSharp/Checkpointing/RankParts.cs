using System.Text.Json;
using FabricSharp.Data;

namespace FabricSharp.Checkpointing;

/// <summary>
/// What each rank has of its own in a checkpoint: the positions of its data loaders and the states of its random number generators, by the user's names.
/// Small enough to be sent to rank 0, which writes them with everything else: one process writes, so one rename puts all of it in place.
/// </summary>
internal static class RankParts
{
    /// <summary>This rank's, as JSON; empty where it has none.</summary>
    public static byte[] Of(IReadOnlyDictionary<string, object?> state)
    {
        var parts = new Dictionary<string, JsonElement>();
        foreach (var (key, value) in state)
            if (Of(value) is { } part)
                parts.Add(key, part);
        return parts.Count == 0 ? [] : JsonSerializer.SerializeToUtf8Bytes(parts, OptimizerDescription.Json);
    }

    /// <summary>Every rank's part of the entry <paramref name="key"/>, as one JSON array.</summary>
    /// <param name="ranks">What <see cref="Of(IReadOnlyDictionary{string, object?})"/> gave on each rank.</param>
    /// <param name="key">A name of rank 0's.</param>
    public static JsonElement Collect(IReadOnlyList<byte[]> ranks, string key) =>
        JsonSerializer.SerializeToElement(ranks.Index().Select(rank => PartOf(rank.Item, rank.Index, key)).ToList());

    private static JsonElement? Of(object? value) => value switch
    {
        IResumableLoader loader => JsonSerializer.SerializeToElement(loader.State, OptimizerDescription.Json),
        RandomState random => random.Capture(),
        _ => null,
    };

    private static JsonElement PartOf(byte[] parts, int rank, string key)
    {
        if (parts.Length > 0 && JsonSerializer.Deserialize<Dictionary<string, JsonElement>>(parts)!.TryGetValue(key, out var part))
            return part;
        throw new ArgumentException($"Save(state[\"{key}\"]): rank 0 saves a data loader or random state under this name, rank {rank} does not. `state` must have the same entries on every rank.", "state");
    }
}
