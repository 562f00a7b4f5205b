using System.Collections;
using System.Runtime.InteropServices;

namespace FabricSharp.DataParallel;

/// <summary>Rebuilding of buckets by what was learned.</summary>
internal sealed partial class GradientReducer
{
    /// <summary>The first pass after which buckets may be rebuilt; doubles each time, so that changing use costs little.</summary>
    private long _nextRebuild;

    /// <summary>
    /// After the first pass, and later when parameters were unused for the first time: buckets follow the order in which rank 0's gradients
    /// became ready, with parameters ever unused in trailing buckets, where they delay no one. All ranks decide alike, from what was
    /// exchanged. Gradients that point into the old buckets stay valid and move at the next pass.
    /// </summary>
    private void RebuildWhenDue(BitArray usedByAll)
    {
        var newlyUnused = new BitArray(usedByAll).Not().And(new BitArray(_everUnused).Not()).HasAnySet();
        _everUnused.Or(new BitArray(usedByAll).Not());
        var due = _nextRebuild == 0 || (newlyUnused | _rebuildPending);
        if (!due)
            return;
        _rebuildPending = true;
        if (_pass < _nextRebuild)
            return;
        _rebuildPending = false;
        _nextRebuild = Math.Max(1, 2 * _pass);
        Rebuild(OrderOfRankZero());
    }

    /// <summary>Whether something was learned that the buckets do not show yet.</summary>
    private bool _rebuildPending;

    private void Rebuild(int[] arrivals)
    {
        var regular = arrivals.Where(i => !_everUnused[i]).Select(i => _slots[i].ToItem()).ToList();
        var trailing = _slots.Reverse().Where(slot => _everUnused[slot.Index]).Select(slot => slot.ToItem()).ToList();
        var assignment = BucketPlanner.Assign(regular, [FirstBucketBytes, BucketBytes]);
        assignment.AddRange(BucketPlanner.Assign(trailing, [BucketBytes]));
        BuildBuckets(assignment);
    }

    /// <summary>Arrival order on rank 0, completed by the parameters that did not arrive there. Collective.</summary>
    private int[] OrderOfRankZero()
    {
        var mine = new int[_slots.Length];
        var missing = Enumerable.Range(0, _slots.Length).Reverse().Except(_arrivals);
        _arrivals.Concat(missing).ToArray().CopyTo(mine, 0);
        var all = new int[mine.Length * _group.Size];
        _channel.Exchange(MemoryMarshal.AsBytes(mine.AsSpan()), MemoryMarshal.AsBytes(all.AsSpan()));
        return all[..mine.Length];
    }
}
