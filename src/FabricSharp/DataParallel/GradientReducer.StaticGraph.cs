using System.Collections;

namespace FabricSharp.DataParallel;

/// <summary>
/// A static graph: the first pass is averaged as a whole when it is over, and shows which parameters each rank uses and how often their hooks fire. From
/// then on nothing is exchanged: each rank knows what the others will send.
/// </summary>
internal sealed partial class GradientReducer
{
    /// <summary>What the first pass in which no rank was out of data used on each rank; null before, and without a static graph.</summary>
    private BitArray[]? _learnedUse;

    /// <summary>What some rank uses.</summary>
    private BitArray? _learnedByAny;

    private bool IsLearning => _options.StaticGraph && _learnedUse is null;

    /// <summary>Whether the parameter is ready at this call of its hook, or a further one is to come.</summary>
    private bool IsLastFiring(ParameterSlot slot)
    {
        slot.Firings++;
        if (IsLearning)
            return false; // nobody knows yet which firing is the last: all are taken at the end
        if (_learnedUse is not null)
            return slot.Firings == slot.ExpectedFirings && _learnedUse[_group.Rank][slot.Index]; // others are errors at the end, together
        return slot.Firings == 1 ? true : throw MarkedTwice(slot);
    }

    /// <summary>At the end of the first pass: every parameter whose hook fired is ready now.</summary>
    private void AcceptWhatFired()
    {
        foreach (var slot in _slots.Reverse().Where(slot => slot.Firings > 0))
        {
            slot.ExpectedFirings = slot.Firings;
            Accept(slot, _accessor.HasGradient(slot));
        }
    }

    private void Learn(ControlMessage?[] messages, BitArray usedByAny)
    {
        _learnedUse = [.. Active(messages).Select(message => new BitArray(message.Used))];
        _learnedByAny = new BitArray(usedByAny);
        _nextRebuild = 0; // now: what nobody uses leaves the buckets
    }

    /// <summary>At the beginning of a pass: this rank's share of what only others use is known to be nothing.</summary>
    private void ContributeToOthers()
    {
        if (_learnedUse is null)
            return;
        var mine = _learnedUse[_group.Rank];
        foreach (var slot in _slots)
        {
            if (mine[slot.Index] || !_learnedByAny![slot.Index])
                continue;
            FillMissing(slot);
            slot.Piece.MarkReady();
        }
    }

    /// <summary>Ends a pass without an exchange: what was promised is what the others count on.</summary>
    private void FinishStaticPass(PassState state)
    {
        if (state.HasFlag(PassState.Broken))
            throw new InvalidOperationException(
                $"Rank {_group.Rank}: the backward pass of the model {ModuleName} ended in an exception. Its graph was promised to be static, so the other ranks count on its gradients: " +
                "training cannot go on. See the exception; with findUnusedParameters: true instead of staticGraph: true a batch may fail on all ranks alike.");
        if (!state.HasFlag(PassState.Joined))
            RequireLearnedUse();
        foreach (var piece in _pieces.AsSpan(_launched))
        {
            Array.ForEach(piece.Slots, FillMissing);
            Launch(piece);
        }

        WaitForPieces();
        GiveBack(_learnedByAny!);
        _passes++;
        if (!state.HasFlag(PassState.Joined))
            NoteUse(_learnedUse![_group.Rank], Intersection(_learnedUse), _learnedByAny!);
    }

    private void RequireLearnedUse()
    {
        var learned = _learnedUse![_group.Rank];
        var changed = _slots.Where(slot =>
            (slot.Firings > 0 || HoldsLocalGradient(slot)) != learned[slot.Index] || (slot.Firings > 0 && slot.Firings != slot.ExpectedFirings)).ToList();
        if (changed.Count > 0)
            throw ChangedGraph(changed, wasUsed: learned[changed[0].Index]);
    }

    private BitArray Intersection(BitArray[] uses) => uses.Aggregate(new BitArray(_slots.Length, true), (all, one) => all.And(one));

    private UnfinishedReductionException ChangedGraph(List<ParameterSlot> changed, bool wasUsed)
    {
        var (before, now) = wasUsed ? ("used", "unused") : ("unused", "used");
        return Unfinished(
            "Expected to have finished reduction in the prior iteration before starting a new one. This error indicates that your training graph has changed in this iteration, " +
            $"e.g., one parameter is {before} in first iteration, but then got {now} in the second iteration. this is not compatible with static_graph set to True.\n" +
            $"On rank {_group.Rank}: {string.Join(", ", changed.Take(NamesShown).Select(slot => slot.Name))}. Use findUnusedParameters: true instead of staticGraph: true.",
            changed);
    }
}
