namespace FabricSharp.DataParallel;

/// <summary>The reducer's part in <see cref="Join"/>.</summary>
internal sealed partial class GradientReducer
{
    private JoinSession? _join;

    public int WorldSize => _group.Size;

    public int Rank => _group.Rank;

    /// <exception cref="InvalidOperationException">It is inside a Join already, or has failed.</exception>
    public void RequireNoJoin()
    {
        ThrowIfFailed();
        if (_join is not null)
            throw new InvalidOperationException($"The model {ModuleName} is inside a Join already: Joins cannot be nested.");
    }

    public void EnterJoin(JoinSession session) => _join = session;

    public void LeaveJoin() => _join = null;

    /// <summary>Gives every rank's notice to every rank. Collective.</summary>
    public void ExchangeNotices(ReadOnlySpan<byte> mine, Span<byte> all)
    {
        ThrowIfFailed();
        _channel.Exchange(mine, all, _options.Timeout);
    }

    /// <summary>What a forward pass of the others asks of this rank. Collective.</summary>
    public void ShadowForward(int root)
    {
        _forwardPasses++;
        BroadcastBuffers(root);
    }

    /// <summary>Takes part in the averaging of the others' gradients with zeros. Collective.</summary>
    public void ShadowPass()
    {
        DropGradients(); // what there is is of an earlier step
        FinishPass(PassState.Joined);
        ThrowIfFailed();
        DropGradients();
    }

    /// <summary>Gives the model of rank <paramref name="root"/> to all ranks. Collective.</summary>
    public void TakeModelOf(int root)
    {
        _awaitsBackward = false;
        _replicas.BroadcastAll(root);
    }

    private void DropGradients()
    {
        foreach (var slot in _slots)
        {
            slot.Parameter.grad = null;
            slot.HasLocalGradient = false;
        }
    }

    public void Abort(string reason) => _channel.Abort(reason);
}
