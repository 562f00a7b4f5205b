using System.Collections;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Tracing;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>One backward pass: gradients become ready, buckets are launched, the pass is finished with the other ranks.</summary>
internal sealed partial class GradientReducer
{
    /// <summary>Without hooks: the gradients from before this backward pass, put aside so that those it makes can be told.</summary>
    private Tensor?[]? _putAside;

    /// <summary>Whether the caller of <c>backward</c> tells when it is over. Nested backward passes inside it then belong to the same pass.</summary>
    private bool _isEndKnown;

    /// <summary>Whether the last forward pass was followed by a backward pass that the caller has told of; true before the first.</summary>
    private bool _isBackwardKnown = true;

    /// <summary>Whether the last synchronised backward pass ended in an exception, on every rank.</summary>
    private bool _wasBroken;

    /// <summary>Without hooks: whether some parameter had a gradient before the last forward pass.</summary>
    private bool _hadGradient;

    /// <summary>To be called before <c>backward</c> where the caller knows of it. Local.</summary>
    public void BeforeBackward()
    {
        _isEndKnown = true;
        _isBackwardKnown = true;
        _clock.BackwardBegins();
        if (_awaitsBackward)
            _trace?.Mark(StepMoment.BackwardBegin);
        if (!_usesHooks && _failure is null)
            PutGradientsAside();
    }

    /// <summary>
    /// To be called after <c>backward</c> where the caller knows of it. Without hooks this is where gradients are averaged. Collective.
    /// </summary>
    public void AfterBackward()
    {
        _isEndKnown = false;
        if (_putAside is not null)
            TakeBackGradients();
        if (_passActive)
            FinishPass(PassState.Regular);
        else if (_awaitsBackward && ToleratesUnused && _learnedUse is null && _failure is null)
            FinishPass(PassState.Regular); // the loss depends on no parameter of this model on this rank
        ThrowIfCommunicationFailed();
    }

    /// <summary>To be called when <c>backward</c> threw: the other ranks must not wait. Local part of a collective failure.</summary>
    public void BackwardFailed()
    {
        _isEndKnown = false;
        if (_putAside is not null)
            TakeBackGradients();
        if (_passActive)
            FinishPass(PassState.Broken);
    }

    /// <inheritdoc/>
    void IGradientHookTarget.OnGradientReady(int index) => ReportReady(_slots[index]);

    /// <inheritdoc/>
    void IGradientHookTarget.OnHookRemoved(int index)
    {
        _slots[index].IsHooked = false;
        _unhooked ??= _slots[index];
    }

    private void ReportReady(ParameterSlot slot)
    {
        try
        {
            GradientReady(slot);
        }
        catch (Exception e)
        {
            Fail(e); // no exception may cross native frames
        }
    }

    /// <inheritdoc/>
    void IGradientHookTarget.OnBackwardEnd()
    {
        try
        {
            FinishPass(PassState.Regular);
        }
        catch (Exception e)
        {
            Fail(e); // FinishPass keeps its failures itself: this is for what nobody foresaw
        }
    }

    private void GradientReady(ParameterSlot slot)
    {
        if (_disposed || _failure is not null)
            return;
        var hasGradient = _accessor.HasGradient(slot); // an autograd function may have returned none
        if (!_synchronizes)
        {
            slot.HasLocalGradient |= hasGradient;
            return;
        }

        BeginPass();
        if (!hasGradient && ToleratesUnused)
            return; // as if it had not been reached
        if (!IsLastFiring(slot))
            return;
        Accept(slot, hasGradient);
        if (_hook is not null)
            return;
        slot.Piece.MarkReady();
        if (slot.Piece.Pending == 0)
            _trace?.Ready(slot.Piece.Number);
        LaunchReadyPieces();
        if (_launched > 0)
            _channel.Progress();
        if (_trace is not null)
            LookForDonePieces();
    }

    private void BeginPass()
    {
        if (_passActive)
            return;
        _passActive = true;
        _clock.BackwardBegins();
        _trace?.Mark(StepMoment.BackwardBegin);
        if (_usesHooks && !_isEndKnown)
            GradientHooks.QueueBackwardEnd(this);
        if (_hook is null)
            ContributeToOthers();
    }

    /// <summary>The parameter's gradient is complete: puts it where the other ranks can read it.</summary>
    private void Accept(ParameterSlot slot, bool hasGradient)
    {
        Contribute(slot, hasGradient);
        slot.ReadyPass = _pass;
        slot.HasLocalGradient = false;
        _arrivals.Add(slot.Index);
        if (UsesViews && !slot.IsPooled)
            _accessor.PointToBucket(slot);
    }

    /// <summary>Pieces are launched strictly in order: that, and equal lists of pieces, is what makes the ranks' reductions match.</summary>
    private void LaunchReadyPieces()
    {
        if (_launched < _pieces.Length && _pieces[_launched].Pending == 0)
            _clock.CommunicationBegins();
        while (_launched < _pieces.Length && _pieces[_launched].Pending == 0)
            Launch(_pieces[_launched++]);
    }

    private void Launch(GradientPiece piece)
    {
        var sent = piece.LaunchAll(Reduction);
        BytesSent += sent;
        _trace?.Launched(piece.Number, sent);
    }

    /// <summary>
    /// Ends the pass together with the other ranks: tells them what this one used, completes what some rank has launched, and of the
    /// rest sends what some rank used. Collective.
    /// </summary>
    private void FinishPass(PassState state)
    {
        if (_failure is not null)
            return;
        try
        {
            _clock.BackwardEnds();
            _trace?.Mark(StepMoment.BackwardEnd);
            if (!state.HasFlag(PassState.Joined))
                _join?.AnnouncePass(this);
            if (_learnedUse is not null && _hook is null)
                FinishStaticPass(state);
            else
                FinishExchangedPass(state);
            _clock.CommunicationEnds();
            _trace?.StepEnds();
        }
        catch (Exception e)
        {
            Fail(e);
        }
        finally
        {
            EndPass();
        }
    }

    private void FinishExchangedPass(PassState state)
    {
        if (IsLearning)
            AcceptWhatFired();
        else if (_learnedUse is not null && !state.HasFlag(PassState.Joined))
            RequireLearnedUse();
        var messages = Exchange(state);
        if (!IsAgreed(messages))
            return;
        if (Active(messages).First().State.HasFlag(PassState.Broken))
            LeaveBrokenPass(messages);
        else
            CompletePass(messages);
    }

    /// <summary>All ranks threw alike: nothing to average, but the queue must be in step. The gradients that came are this rank's own so far.</summary>
    private void LeaveBrokenPass(ControlMessage?[] messages)
    {
        CompleteLaunched(messages);
        foreach (var slot in _slots)
            slot.HasLocalGradient |= slot.ReadyPass == _pass;
        _wasBroken = true;
    }

    /// <summary>Once, on rank 0. It costs nothing to leave the flag on, but it hides a parameter that was forgotten.</summary>
    private void AdviseWhenFlagIsIdle()
    {
        if (_options.FindUnusedParameters && _unused.Passes == PassesBeforeAdvice && !_unused.IsAnyUnused && _group.Rank == 0)
            Console.Error.WriteLine(
                $"FabricSharp: findUnusedParameters is on, but every parameter was used in each of the first {PassesBeforeAdvice} backward passes. " +
                "Without the flag (strategy: \"ddp\") a parameter that goes unused by mistake would be an error.");
    }

    /// <summary>Every rank's message; null for a rank that has joined.</summary>
    private ControlMessage?[] Exchange(PassState state)
    {
        state |= (_options.FindUnusedParameters ? PassState.FindsUnused : 0) | (_options.StaticGraph ? PassState.StaticGraph : 0);
        var mine = new ControlMessage(_forwardPasses, _launched, state, UsedHere()).Encode();
        var all = new byte[mine.Length * _group.Size];
        _trace?.Mark(StepMoment.ExchangeBegin);
        _channel.Exchange(mine, all, _options.Timeout);
        _trace?.Mark(StepMoment.ExchangeEnd);
        ControlExchanges++;
        return [.. Enumerable.Range(0, _group.Size).Select(rank => ControlMessage.Decode(all, rank, _slots.Length)).Select(message => message.State.HasFlag(PassState.Joined) ? default(ControlMessage?) : message)];
    }

    private BitArray UsedHere()
    {
        var used = new BitArray(_slots.Length);
        foreach (var slot in _slots)
            used[slot.Index] = slot.ReadyPass == _pass || (ToleratesUnused && HoldsLocalGradient(slot));
        return used;
    }

    /// <summary>Whether there is something that was not averaged; gradients may have been taken away since.</summary>
    private bool HoldsLocalGradient(ParameterSlot slot) => slot.HasLocalGradient && _accessor.HasGradient(slot);

    private void CompletePass(ControlMessage?[] messages)
    {
        _wasBroken = false;
        var usedByAny = Combine(messages, (all, one) => all.Or(one));
        var usedByAll = Combine(messages, (all, one) => all.And(one));
        if (_hook is null)
            CompletePieces(messages, usedByAny);
        else
            AverageThroughHook(_hook, usedByAny);
        GiveBack(usedByAny);
        if (!usedByAny.HasAnySet())
            return; // the backward pass of another model, of which this one learns nothing
        if (messages[_group.Rank] is { } mine)
            NoteUse(mine.Used, usedByAll, usedByAny);
        _passes++;
        if (IsLearning && messages.All(message => message is not null))
            Learn(messages, usedByAny);
        AdviseWhenFlagIsIdle();
        RebuildWhenDue(usedByAll, usedByAny);
    }

    private void CompletePieces(ControlMessage?[] messages, BitArray usedByAny)
    {
        _clock.CommunicationBegins();
        LaunchWhatSomeRankLaunched(messages);
        foreach (var piece in _pieces.AsSpan(_launched))
            LaunchUsed(piece, usedByAny);
        WaitForPieces();
    }

    private void CompleteLaunched(ControlMessage?[] messages)
    {
        LaunchWhatSomeRankLaunched(messages);
        WaitForPieces();
    }

    private void WaitForPieces()
    {
        _trace?.Mark(StepMoment.WaitBegin);
        foreach (var piece in _pieces)
        {
            piece.Wait(_options.Timeout);
            _trace?.Done(piece.Number);
        }

        _trace?.Mark(StepMoment.WaitEnd);
    }

    private void LaunchWhatSomeRankLaunched(ControlMessage?[] messages)
    {
        var launchedByAny = Active(messages).Max(message => message.Launched);
        while (_launched < launchedByAny)
        {
            Array.ForEach(_pieces[_launched].Slots, FillMissing);
            Launch(_pieces[_launched++]);
        }
    }

    private void LaunchUsed(GradientPiece piece, BitArray used)
    {
        foreach (var slot in piece.Slots)
            if (used[slot.Index])
                FillMissing(slot);
        var sent = piece.LaunchUsed(Reduction, slot => used[slot.Index]);
        BytesSent += sent;
        _trace?.Launched(piece.Number, sent);
    }

    /// <summary>What this rank contributes for a parameter that it did not use in this pass: what it has accumulated, else zeros.</summary>
    private void FillMissing(ParameterSlot slot)
    {
        if (slot.ReadyPass != _pass)
            Contribute(slot, _accessor.HasGradient(slot));
    }

    /// <summary>Puts the gradient, or zeros, where the other ranks can read it.</summary>
    private void Contribute(ParameterSlot slot, bool hasGradient)
    {
        if (slot.IsPooled && hasGradient)
            _accessor.BringToPool(slot, _pool!);
        else if (slot.IsPooled)
            _accessor.MakeZerosInPool(slot, _pool!);
        else if (hasGradient)
            _accessor.CopyToBucket(slot);
        else
            _accessor.Clear(slot);
    }

    /// <summary>Every parameter that some rank used has its average as <c>grad</c>; the others keep theirs.</summary>
    private void GiveBack(BitArray used)
    {
        foreach (var slot in _slots)
        {
            if (!used[slot.Index])
                continue;
            slot.HasLocalGradient = false;
            if (!UsesViews)
                _accessor.CopyFromBucket(slot);
            else if (!slot.IsPooled && slot.ReadyPass != _pass)
                _accessor.PointToBucket(slot);
        }
    }

    private void EndPass()
    {
        _passActive = false;
        _awaitsBackward = false;
        _launched = 0;
        _pass++;
        _arrivals.Clear();
        foreach (var piece in _pieces)
            piece.Reset();
        foreach (var slot in _slots)
            slot.Firings = 0;
    }

    private static BitArray Combine(ControlMessage?[] messages, Func<BitArray, BitArray, BitArray> operation) =>
        Active(messages).Skip(1).Aggregate(new BitArray(Active(messages).First().Used), (all, message) => operation(all, message.Used));

    private void PutGradientsAside()
    {
        _putAside = new Tensor?[_slots.Length];
        foreach (var slot in _slots)
        {
            _putAside[slot.Index] = slot.Parameter.grad?.DetachFromDisposeScope();
            slot.Parameter.grad = null;
        }
    }

    /// <summary>Adds what the backward pass made to what was there, and reports each parameter that it reached, last registered first.</summary>
    private void TakeBackGradients()
    {
        using var gradientsOff = no_grad();
        using TorchSharp.Scalar one = 1; // held: TorchSharp lets the finaliser free a number that it made itself during the call
        var putAside = _putAside!;
        _putAside = null;
        var reached = new List<ParameterSlot>();
        foreach (var slot in _slots.Reverse())
        {
            using var before = putAside[slot.Index];
            using var made = slot.Parameter.grad;
            if (before is not null)
            {
                if (made is not null)
                    before.add_(made, one);
                slot.Parameter.grad = before;
            }

            if (made is not null)
                reached.Add(slot);
        }

        reached.ForEach(ReportReady); // when all gradients are back in their places
    }
}
