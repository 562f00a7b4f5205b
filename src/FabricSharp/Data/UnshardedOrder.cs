namespace FabricSharp.Data;

/// <summary>The loader's own order, all of it.</summary>
/// <param name="sampler">The loader's.</param>
/// <param name="length">How many items it yields, where that is known.</param>
internal sealed class UnshardedOrder(IEnumerable<long> sampler, long? length) : ItemOrder
{
    public override long Count => length ?? (sampler.TryGetNonEnumeratedCount(out var count) ? count : sampler.LongCount());

    protected override IEnumerable<long> Draw(int epoch)
    {
        Tell(sampler, epoch);
        return sampler;
    }
}
