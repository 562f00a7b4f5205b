namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// Requests between ranks, and how one waits for them: making progress with everything, looking for ranks that failed, died or diverged, and
/// never beyond a limit. No thread of its own: whoever asks, waits or calls <see cref="Progress"/> does what can be done.
/// </summary>
internal abstract class SharedMemoryQueue : IDisposable
{
    private const int RoundsPerProgressOfAll = 16;

    private readonly SharedMemorySegment _segment;

    /// <summary>Makes the queue. Collective.</summary>
    /// <param name="world">The ranks.</param>
    /// <param name="name">Names the queue in errors.</param>
    /// <param name="bytes">Size of its memory.</param>
    /// <param name="partner">A queue that fails together with this one, and shares its lock.</param>
    protected SharedMemoryQueue(SharedMemoryWorld world, string name, long bytes, SharedMemoryQueue? partner)
    {
        World = world;
        Name = name;
        Gate = partner?.Gate ?? new Lock();
        _segment = SharedMemoryExchange.CreateCommon(world, name, bytes);
        Number = world.NextChannelNumber();
        Partner = partner;
        if (partner is not null)
            partner.Partner = this;
    }

    public SharedMemoryWorld World { get; }

    public string Name { get; }

    public int Rank => World.Rank;

    public int Size => World.Size;

    public TimeSpan Timeout => World.Timeout;

    /// <summary>Guards everything local.</summary>
    protected Lock Gate { get; }

    /// <summary>The same on every rank.</summary>
    protected long Number { get; }

    protected unsafe byte* Memory => _segment.Pointer;

    /// <summary>Needs the lock, as reading <see cref="IsUsable"/> does.</summary>
    protected bool IsUsable => _failure is null && !_disposed;

    private SharedMemoryQueue? Partner { get; set; }

    /// <summary>The first failure; everything queued and everything later ends with it.</summary>
    private DistributedException? _failure;
    private bool _disposed;

    /// <summary>Does what can be done now. Local: does not wait.</summary>
    public virtual void Progress()
    {
        lock (Gate)
            Advance();
    }

    /// <summary>Waits until <paramref name="request"/> is over, making progress with everything queued here and in <paramref name="others"/>.</summary>
    public void Wait(SharedMemoryRequest request, TimeSpan timeout, SharedMemoryQueue? others = null)
    {
        Progress();
        if (!request.IsCompleted && TryHold())
        {
            try
            {
                WaitSlowly(request, timeout, others);
            }
            finally
            {
                _segment.EndHold();
                World.EndHold();
            }
        }

        if (request.Failure is { } failure)
            throw failure;
    }

    /// <summary>Ends everything queued with <paramref name="failure"/>; later requests are refused with it.</summary>
    public void Fail(DistributedException failure)
    {
        lock (Gate)
        {
            FailThis(failure);
            Partner?.FailThis(failure);
        }
    }

    public void Dispose()
    {
        Fail(new DistributedException($"{World.Me}: the group was disposed while operations of '{Name}' were pending."));
        lock (Gate)
        {
            if (_disposed)
                return;
            _disposed = true;
            World.Unregister(this);
            _segment.Dispose();
        }
    }

    /// <summary>Needs the lock.</summary>
    protected void RequireUsable()
    {
        if (!IsUsable)
            throw new DistributedException(
                _failure is null
                    ? $"{World.Me}: the group of '{Name}' is disposed."
                    : $"{World.Me}: '{Name}' is unusable since an earlier failure: {_failure.Message}", _failure);
        World.ObserveThread();
    }

    /// <summary>Does what can be done now. Needs the lock; does nothing unless <see cref="IsUsable"/>.</summary>
    protected abstract void Advance();

    /// <summary>Ends everything queued. Needs the lock.</summary>
    protected abstract void Clear(DistributedException failure);

    protected abstract string Describe(SharedMemoryRequest request);

    /// <summary>What the divergence watch goes by: equal on two ranks only if they wait for the same, another one after each progress.</summary>
    protected abstract long TokenOf(SharedMemoryRequest request);

    /// <summary>Whether the request needs something of the rank that it has not done yet.</summary>
    protected abstract bool IsMissing(SharedMemoryRequest request, int rank);

    /// <summary>Who holds the request up, and what they did last.</summary>
    protected abstract string DescribeMissing(SharedMemoryRequest request);

    private void FailThis(DistributedException failure)
    {
        _failure ??= failure;
        Clear(_failure);
    }

    /// <summary>Keeps the memory that a waiting thread looks at without the lock, should another one dispose the group.</summary>
    private bool TryHold()
    {
        if (!World.TryHold())
            return false;
        if (_segment.TryHold())
            return true;
        World.EndHold();
        return false;
    }

    private void WaitSlowly(SharedMemoryRequest request, TimeSpan timeout, SharedMemoryQueue? others)
    {
        var pause = new SharedMemoryPause(World, timeout);
        var watch = default(DivergenceWatch); // made when the wait turns out long: most end within microseconds
        try
        {
            for (var round = 1; !request.IsCompleted; round++)
            {
                if (!pause.Once())
                    throw new DistributedTimeoutException(DescribeTimeout(request, timeout));
                Progress();
                others?.Progress();
                if (round % RoundsPerProgressOfAll == 0 || pause.IsSlow)
                    World.ProgressAll();
                if (request.IsCompleted)
                    break;
                if (pause.IsSlow)
                    (watch ??= new DivergenceWatch(World)).Look(TokenOf(request), () => $"in {Describe(request)}"); // first: when all ranks have diverged, that is the cause of every failure
                if (pause.IsSlow && pause.PassesHalf())
                    World.Warn(DescribeDelay(request, timeout));
                if (pause.IsSlow || World.AnyTrouble)
                    ThrowIfPeerFailed(request, pause.IsSlow);
            }
        }
        catch (DistributedException e)
        {
            Fail(e);
        }
        finally
        {
            pause.End();
            watch?.End();
        }
    }

    private void ThrowIfPeerFailed(SharedMemoryRequest request, bool slow)
    {
        bool Lacks(int rank) => IsMissing(request, rank);
        var description = Describe(request);
        try
        {
            World.ThrowIfFailed(description, Lacks);
            if (slow)
                World.ThrowIfDead(description, Lacks);
        }
        catch (PeerFailedException)
        {
            Progress(); // the rank may have done its part just before it ended
            if (!request.IsCompleted)
                throw;
        }
    }

    private string DescribeTimeout(SharedMemoryRequest request, TimeSpan timeout) =>
        $"{World.Me}: {Describe(request)} timed out after {timeout.TotalSeconds:0.###} s: {DescribeMissing(request)}{DescribeStopped(request)}. " +
        "Did a rank take another branch, run out of data, or is it just slow? A longer limit is set with the strategy's timeout.";

    private string DescribeDelay(SharedMemoryRequest request, TimeSpan timeout) =>
        $"{World.Me} has waited {timeout.TotalSeconds / 2:0.#} s, half of its limit, in {Describe(request)}: {DescribeMissing(request)}{DescribeStopped(request)}.";

    private string DescribeStopped(SharedMemoryRequest request) =>
        string.Concat(Enumerable.Range(0, Size).Where(rank => rank != Rank && IsMissing(request, rank)).Select(rank => World.DescribeStopped(rank)));
}
