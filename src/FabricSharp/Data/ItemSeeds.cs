namespace FabricSharp.Data;

/// <summary>The seeds of the items that one rank loads.</summary>
/// <param name="Seed">The global seed, the same on every rank, below 2³².</param>
/// <param name="Rank">This rank among all, be the data shared or not.</param>
internal readonly record struct ItemSeeds(long Seed, int Rank)
{
    /// <summary>Different for the items of one rank and epoch without exception, and for others but for chance.</summary>
    public ulong Of(int epoch, long index)
    {
        var ofRank = SplitMix64.Mix(((ulong)Seed << 32) | (uint)Rank);
        var ofEpoch = SplitMix64.Mix(ofRank + (ulong)epoch);
        return SplitMix64.Mix(ofEpoch + (ulong)index);
    }
}
