using FabricSharp.Collectives.Control;
using FabricSharp.Collectives.Stores;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Nccl;

/// <summary>
/// An operation on a stream of its own. Waiting for it blocks the calling thread until the stream has passed it, and so shows failures where they
/// belong; what libtorch does afterwards on its own stream sees the result. Tensors are held until then, whatever the caller does with his.
/// </summary>
internal abstract class NcclWork : Work
{
    /// <summary>How long an operation may still end well after another rank's failure or end was heard of: its data may have been sent before.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(400);

    private readonly NcclWorld _world;
    private readonly Lock _gate = new();
    private Tensor?[] _held;
    private NcclCommunicator? _communicator;
    private IntPtr _done;
    private bool _hasNothingToDo;
    private bool _isOver;

    protected NcclWork(NcclWorld world, string text, ReadOnlySpan<Tensor?> tensors)
    {
        _world = world;
        Text = text;
        _held = new Tensor?[tensors.Length];
        using (no_grad())
            for (var i = 0; i < tensors.Length; i++)
                _held[i] = tensors[i]?.detach().DetachFromDisposeScope();
    }

    /// <summary>What was called, as errors show it.</summary>
    public string Text { get; }

    public override bool IsCompleted => HasPassed() || _world.Failure is not null;

    public override Exception? Exception => HasPassed() ? null : _world.Failure;

    public override void Wait(TimeSpan? timeout = null)
    {
        if (HasPassed())
            return;
        var limit = timeout ?? _world.Timeout;
        var deadline = Deadline.After(limit);
        using var watch = Watch();
        OrderComputation();
        for (var pause = new NcclPause(); !HasPassed(); pause.Next())
        {
            if (_world.Failure is { } failure)
                throw failure;
            if (FindFailure() is { } found)
                throw _world.Fail(found);
            if (deadline.HasPassed)
                throw _world.Fail(TimedOut(limit));
            watch.Look();
        }
    }

    /// <summary>Says that the operation was put on the communicator's stream, and is over when the event has passed.</summary>
    public void Begin(NcclCommunicator communicator, IntPtr done)
    {
        lock (_gate)
        {
            _communicator = communicator;
            _done = done;
        }
    }

    /// <summary>Says that there was nothing to do here.</summary>
    public void End()
    {
        lock (_gate)
            _hasNothingToDo = true;
    }

    /// <summary>Whether the stream has passed the operation; lets go of its tensors if so.</summary>
    public bool HasPassed()
    {
        lock (_gate)
        {
            if (_isOver)
                return true;
            if (!_hasNothingToDo && (_done == IntPtr.Zero || !_communicator!.HasPassed(_done)))
                return false;
            if (!IsAgreed)
                return false;
            if (_done != IntPtr.Zero)
                _communicator!.GiveBack(_done);
            _done = IntPtr.Zero;
            Release();
            return true;
        }
    }

    /// <summary>Lets go of the tensors of an operation that was given up; it stays one that did not end well.</summary>
    public void Abandon()
    {
        lock (_gate)
        {
            _done = IntPtr.Zero;
            DisposeHeld();
        }
    }

    protected abstract ControlWait Watch();

    /// <summary>Whether all ranks are known to have called the same: without that a result may be of different operations.</summary>
    protected abstract bool IsAgreed { get; }

    /// <summary>Throws when the operation cannot end well any more because of other ranks.</summary>
    protected abstract void ThrowIfCannotEnd();

    protected abstract DistributedTimeoutException TimedOut(TimeSpan limit);

    /// <summary>What libtorch is told from now on is to see the result, also where this wait ends before the event has passed.</summary>
    private void OrderComputation()
    {
        lock (_gate)
            if (_done != IntPtr.Zero)
                _communicator!.HaveComputationWaitFor(_done);
    }

    private DistributedException? FindFailure()
    {
        var error = ErrorOfOthers() ?? Volatile.Read(ref _communicator)?.FindAsyncError(Text);
        if (error is null or CollectiveMismatchException)
            return error;
        var deadline = Deadline.After(Grace);
        for (var pause = new NcclPause(); !deadline.HasPassed; pause.Next())
        {
            if (HasPassed())
                return null;
            error = ErrorOfOthers() ?? error; // who failed is worth more than that somebody did
        }

        return error;
    }

    private DistributedException? ErrorOfOthers()
    {
        try
        {
            ThrowIfCannotEnd();
            return null;
        }
        catch (DistributedException e)
        {
            return e;
        }
    }

    private void Release()
    {
        _isOver = true;
        DisposeHeld();
    }

    private void DisposeHeld()
    {
        foreach (var tensor in _held)
            tensor?.Dispose();
        _held = [];
    }
}

/// <summary>An operation that all ranks of a communicator call.</summary>
internal sealed class NcclCollectiveWork(NcclWorld world, int channel, long number, string text, ReadOnlySpan<Tensor?> tensors) : NcclWork(world, text, tensors)
{
    private readonly ControlLine _line = world.Line;
    private readonly int _channel = channel;
    private readonly long _number = number;

    protected override bool IsAgreed => _line.IsAgreed(_channel, _number);

    protected override ControlWait Watch() => new(_line, _channel, _number, Text);

    protected override void ThrowIfCannotEnd() => _line.ThrowIfCannotEnd(_channel, _number, Text);

    protected override DistributedTimeoutException TimedOut(TimeSpan limit) => _line.TimedOut(Text, limit, _line.MissingFor(_channel, _number));
}

/// <summary>One side of a message between two ranks.</summary>
internal sealed class NcclMessageWork(NcclWorld world, bool isOutgoing, int peer, string text, Tensor tensor) : NcclWork(world, text, [tensor])
{
    private readonly ControlLine _line = world.Line;

    public bool IsOutgoing => isOutgoing;

    public int Peer => peer;

    /// <summary>Given by the control line.</summary>
    public long Number { get; set; }

    public required IntPtr Data { get; init; }

    public required long Bytes { get; init; }

    /// <summary>Has passed when libtorch's stream has made, or no longer reads, the tensor.</summary>
    public required IntPtr Ready { get; init; }

    /// <summary>Only messages that have found their partner are begun.</summary>
    protected override bool IsAgreed => true;

    protected override ControlWait Watch() => new(_line, 0, Number, Text);

    protected override void ThrowIfCannotEnd() => _line.ThrowIfMessageCannotEnd(Number, peer, Text);

    protected override DistributedTimeoutException TimedOut(TimeSpan limit) =>
        _line.TimedOut(Text, limit, $"{_line.NameOf(peer)} did not call {(isOutgoing ? "Recv" : "Send")} with this rank and tag, or the data did not come");
}
