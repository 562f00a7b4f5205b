namespace FabricSharp.Collectives;

/// <summary>How messages name the ranks of a group.</summary>
internal static class RankName
{
    /// <summary><c>rank 1</c>, or <c>rank 1 (global rank 3)</c> in a group of some of the ranks.</summary>
    public static string Of(int rank, IReadOnlyList<int> globalRanks) =>
        rank < 0 || rank >= globalRanks.Count || globalRanks[rank] == rank ? $"rank {rank}" : $"rank {rank} (global rank {globalRanks[rank]})";

    /// <summary><c>rank 1</c> or <c>ranks 1, 2</c>.</summary>
    public static string OfAll(IReadOnlyCollection<int> ranks, IReadOnlyList<int> globalRanks) =>
        ranks.Count == 1 ? Of(ranks.First(), globalRanks) : $"ranks {string.Join(", ", ranks.Select(rank => Of(rank, globalRanks)["rank ".Length..]))}";
}
