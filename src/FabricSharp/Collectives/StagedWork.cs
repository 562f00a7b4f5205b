using static TorchSharp.torch;

namespace FabricSharp.Collectives;

/// <summary>An operation on a contiguous copy of a tensor with strides: the result is brought back, once, when the operation has ended well.</summary>
internal sealed class StagedWork : Work
{
    private readonly Work _inner;
    private readonly Lock _gate = new();

    /// <summary>Null when the operation has ended and the copy is gone.</summary>
    private Tensor? _copy;
    private Tensor? _target;

    private StagedWork(Work inner, Tensor copy, Tensor? target)
    {
        _inner = inner;
        _copy = copy;
        _target = target;
    }

    public override bool IsCompleted
    {
        get
        {
            if (!_inner.IsCompleted)
                return false;
            End();
            return true;
        }
    }

    public override Exception? Exception => _inner.Exception;

    /// <summary>Starts an operation on a copy of <paramref name="tensor"/>.</summary>
    public static Work Start(Tensor tensor, bool copyBack, Func<Tensor, Work> start)
    {
        Tensor copy;
        using (no_grad())
        using (var detached = tensor.detach())
            copy = detached.contiguous().DetachFromDisposeScope();
        try
        {
            return new StagedWork(start(copy), copy, copyBack ? tensor : null);
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    public override void Wait(TimeSpan? timeout = null)
    {
        try
        {
            _inner.Wait(timeout);
        }
        finally
        {
            if (_inner.IsCompleted) // else its memory is still in use
                End();
        }
    }

    private void End()
    {
        lock (_gate)
        {
            if (_copy is null)
                return;
            using var gradientsOff = no_grad();
            if (_inner.Exception is null)
                _target?.copy_(_copy);
            _copy.Dispose();
            _copy = _target = null;
        }
    }
}
