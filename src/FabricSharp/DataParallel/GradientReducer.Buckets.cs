using System.Collections;
using System.Runtime.InteropServices;
using FabricSharp.Interop.LibTorch;

namespace FabricSharp.DataParallel;

/// <summary>Where gradients lie: laid out at first by registration, later by what was learned.</summary>
internal sealed partial class GradientReducer
{
    /// <summary>The first pass after which buckets may be rebuilt; doubles each time, so that changing use costs little.</summary>
    private long _nextRebuild;

    /// <summary>Whether something was learned that the buckets do not show yet.</summary>
    private bool _rebuildPending;

    /// <summary>Whether buckets follow what backward passes have shown.</summary>
    private bool _hasRebuilt;

    /// <summary>The first layout: last registered first, which is about the order in which gradients become ready. Collective.</summary>
    private void LayOut()
    {
        _pool = UsesViews ? _channel.CreatePool([.. _slots.Select(slot => slot.Bytes >= SmallestPooledGradient ? slot.Bytes : 0)]) : null;
        foreach (var slot in _slots)
            slot.IsPooled = _pool?.Covers(slot.Bytes) ?? false;
        BuildBuckets(BucketPlanner.Assign([.. _slots.Select(slot => slot.ToItem())], [_options.FirstBucketBytes, _options.BucketBytes]).AsEnumerable().Reverse());
    }

    private void BuildBuckets(IEnumerable<int[]> assignment)
    {
        var old = _buckets;
        _buckets = [.. assignment.Select(members => new GradientBucket([.. members.Select(i => _slots[i])], _channel, _accessor.CanUseViews || _accessor.NeedsTensors || _hook is not null, withoutGaps: _hook is not null))];
        _pieces = [.. _buckets.SelectMany(bucket => bucket.Pieces)];
        for (var i = 0; i < _pieces.Length; i++)
        {
            _pieces[i].Number = i;
            _pieces[i].Reset();
        }

        _trace?.LaidOut(TracedPieces());
        old.ForEach(bucket => bucket.Dispose());
    }

    /// <summary>
    /// After the first pass, and later when parameters were unused for the first time: buckets follow the order in which rank 0's gradients
    /// became ready, with parameters ever unused in trailing buckets, where they delay no one. All ranks decide alike, from what was
    /// exchanged. Gradients that point into the old buckets stay valid and move at the next pass.
    /// </summary>
    private void RebuildWhenDue(BitArray usedByAll, BitArray usedByAny)
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
        RequireUnchangedParameters();
        Rebuild(OrderOfRankZero(), usedByAny);
    }

    private void Rebuild(int[] arrivals, BitArray usedByAny)
    {
        var regular = arrivals.Where(i => !_everUnused[i]).Select(i => _slots[i].ToItem()).ToList();
        var trailing = _slots.Reverse().Where(slot => _everUnused[slot.Index] && (usedByAny[slot.Index] || _learnedUse is null)).Select(slot => slot.ToItem()).ToList();
        var assignment = BucketPlanner.Assign(regular, [_options.FirstBucketBytes, _options.BucketBytes]);
        assignment.AddRange(BucketPlanner.Assign(trailing, [_options.BucketBytes]));
        BuildBuckets(assignment);
        _hasRebuilt = true;
    }

    /// <summary>Arrival order on rank 0, completed by the parameters that did not arrive there. Collective.</summary>
    private int[] OrderOfRankZero()
    {
        var mine = new int[_slots.Length];
        var missing = Enumerable.Range(0, _slots.Length).Reverse().Except(_arrivals);
        _arrivals.Concat(missing).ToArray().CopyTo(mine, 0);
        var all = new int[mine.Length * _group.Size];
        _channel.Exchange(MemoryMarshal.AsBytes(mine.AsSpan()), MemoryMarshal.AsBytes(all.AsSpan()), _options.Timeout);
        return all[..mine.Length];
    }

    /// <summary>Looks for what would leave gradients of this model out of the averaging without a word. Local, and cheap.</summary>
    private void RequireParametersAsAtSetUp()
    {
        if (_unhooked is { } slot)
            throw slot.Parameter.IsInvalid ? Replaced(slot) : HookedByAnother(slot);
        foreach (var (name, parameter) in _frozen)
            if (!parameter.IsInvalid && parameter.requires_grad)
                throw Unfrozen(name);
    }

    /// <summary>The last forward pass was followed by no gradient: perhaps there is a reason.</summary>
    private void LookForReplacedParameters()
    {
        try
        {
            RequireUnchangedParameters();
        }
        catch (InvalidOperationException e)
        {
            Fail(e);
            throw;
        }
    }

    /// <summary>
    /// TorchSharp's <c>module.to(…)</c> replaces parameters by new objects, whose gradients nobody would average. Looked for only where something is
    /// amiss already, for a walk through the module costs more than a small step.
    /// </summary>
    private void RequireUnchangedParameters()
    {
        var present = _module.named_parameters().Select(p => TensorIdentity.Of(p.parameter)).ToHashSet();
        var replaced = _slots.FirstOrDefault(slot => slot.Parameter.IsInvalid || !present.Contains(TensorIdentity.Of(slot.Parameter)));
        if (replaced is not null)
            throw Replaced(replaced);
    }
}
