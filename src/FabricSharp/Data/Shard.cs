namespace FabricSharp.Data;

/// <summary>Which part of a data set a loader is to visit.</summary>
/// <param name="Replicas">The number of parts; 1 is the whole.</param>
/// <param name="Rank">The part, from 0.</param>
/// <param name="Seed">Where shuffling starts from, the same for all parts.</param>
internal readonly record struct Shard(int Replicas, int Rank, long Seed)
{
    public static Shard Whole(long seed) => new(1, 0, seed);
}
