namespace FabricSharp.Data;

/// <summary>Every N-th item that a sampler of the user yields, beginning at the rank, as many on every rank.</summary>
internal sealed class WrappedOrder(IEnumerable<long> sampler, Shard shard) : ItemOrder
{
    private long[]? _latest;
    private int _latestEpoch;
    private bool _ahead;

    public override long Count => Positions(Length).Count;

    public override int Replicas => shard.Replicas;

    /// <summary>
    /// A sampler that does not know its length is asked for the next epoch's items ahead of time: drawing them once more would take a
    /// sampler with a random state out of step with the other ranks.
    /// </summary>
    private long Length
    {
        get
        {
            if (sampler.TryGetNonEnumeratedCount(out var count))
                return count;
            _ahead |= _latest is null;
            return (_latest ?? Redraw(NextEpoch)).Length;
        }
    }

    protected override IEnumerable<long> Draw(int epoch)
    {
        var items = _ahead && _latestEpoch == epoch ? _latest! : Redraw(epoch);
        _ahead = false;
        return Positions(items.Length).Select(position => items[position]);
    }

    private long[] Redraw(int epoch)
    {
        Tell(sampler, epoch);
        _latestEpoch = epoch;
        return _latest = [.. sampler];
    }

    private DistributedSampler Positions(long length) => new(length, shard.Replicas, shard.Rank, shuffle: false);
}
