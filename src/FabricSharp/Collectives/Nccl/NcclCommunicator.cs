using FabricSharp.Collectives.Stores;
using FabricSharp.Interop.Cuda;
using FabricSharp.Interop.Nccl;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Nccl;

/// <summary>
/// A communicator of NCCL with a stream of its own: operations on it are carried out in the order in which they were begun, beside what libtorch
/// computes. Each begins when libtorch's stream has come to the point of the call. Calls into NCCL do not block: every wait is here, with a limit.
/// </summary>
internal sealed class NcclCommunicator : IDisposable
{
    /// <summary>How long the end of a communicator may take before it is cut short.</summary>
    private static readonly TimeSpan FarewellLimit = TimeSpan.FromSeconds(5);

    /// <summary>How long cutting it short waits for another thread to come out of NCCL.</summary>
    private static readonly TimeSpan AbortPatience = TimeSpan.FromSeconds(1);

    private readonly NcclWorld _world;

    /// <summary>Guards the handle: no call may be under way with one that is freed.</summary>
    private readonly object _calls = new();
    private readonly Stack<IntPtr> _freeEvents = new();
    private readonly Queue<NcclWork> _inFlight = new();
    private readonly Dictionary<(NcclType, double), int> _preMulSums = [];
    private readonly IntPtr _stream;
    private readonly IntPtr _ready;
    private IntPtr _handle;
    private bool _isGone;
    private bool _isReleased;

    /// <summary>Joins. Collective for the members.</summary>
    /// <param name="world">The group.</param>
    /// <param name="key">Names the communicator in the store.</param>
    /// <param name="rank">This rank's number in it.</param>
    /// <param name="size">Its number of ranks.</param>
    public NcclCommunicator(NcclWorld world, string key, int rank, int size)
    {
        _world = world;
        world.Cuda.MakeCurrent(world.DeviceIndex);
        try
        {
            var id = world.ShareUniqueId(key, rank == 0, world.Timeout);
            var result = world.Nccl.BeginJoin(out _handle, size, id, rank);
            Settle(result, "ncclCommInitRankConfig", "joining NCCL's communicator");
            _stream = world.Cuda.CreateStream();
            _ready = world.Cuda.CreateEvent();
        }
        catch (Exception e) when (e is NcclException or CudaException)
        {
            Abort();
            throw Describe(e, "joining NCCL's communicator");
        }
        catch
        {
            Abort();
            throw;
        }

        world.Add(this);
    }

    /// <summary>Held while an operation is begun.</summary>
    public Lock Order { get; } = new();

    public IntPtr Stream => _stream;

    /// <summary>Puts an operation on the stream, behind what libtorch's stream has been told so far. Does not wait for other ranks.</summary>
    /// <param name="work">The operation.</param>
    /// <param name="launch">Calls NCCL, on a thread on which the device is current; null where there is nothing to do.</param>
    /// <param name="after">An event to begin behind; zero for libtorch's stream as it is now.</param>
    public void Begin(NcclWork work, Action? launch, IntPtr after = default)
    {
        lock (Order)
        {
            _world.ThrowIfFailed();
            if (launch is null)
            {
                work.End();
                return;
            }

            _world.Cuda.MakeCurrent(_world.DeviceIndex);
            try
            {
                if (after == IntPtr.Zero)
                    _world.Cuda.Record(after = _ready, _world.Cuda.CurrentStream(_world.DeviceIndex));
                _world.Cuda.WaitOnStream(_stream, after);
                launch();
                var done = TakeEvent();
                _world.Cuda.Record(done, _stream);
                work.Begin(this, done);
            }
            catch (Exception e) when (e is NcclException or CudaException)
            {
                throw _world.Fail(Describe(e, work.Text));
            }

            _inFlight.Enqueue(work);
            while (_inFlight.TryPeek(out var oldest) && oldest.HasPassed())
                _inFlight.Dequeue();
        }
    }

    /// <summary>Calls NCCL and waits until the call, not the operation, is over.</summary>
    public void Call(string function, string text, Func<IntPtr, NcclResult> call)
    {
        NcclResult result;
        lock (_calls)
        {
            ThrowIfGone();
            result = call(_handle);
        }

        Settle(result, function, text);
    }

    /// <summary>Calls of NCCL that are begun together, for sending and receiving at once.</summary>
    public void CallTogether(string text, IEnumerable<(string Function, Func<IntPtr, NcclResult> Call)> calls)
    {
        NcclResult result;
        lock (_calls)
        {
            ThrowIfGone();
            Require(_world.Nccl.StartGroup(), "ncclGroupStart");
            try
            {
                foreach (var (function, call) in calls)
                    Require(call(_handle), function);
            }
            finally
            {
                result = _world.Nccl.EndGroup();
            }
        }

        Settle(result, "ncclGroupEnd", text);
    }

    /// <summary>A reduction that multiplies by <paramref name="factor"/> first; made once.</summary>
    public int PreMulSum(double factor, ScalarType type)
    {
        var ncclType = NcclMapping.TypeOf(type)!.Value;
        if (_preMulSums.TryGetValue((ncclType, factor), out var known))
            return known;
        var made = 0;
        Call("ncclRedOpCreatePreMulSum", "making a premultiplied sum", handle => _world.Nccl.CreatePreMulSum(out made, NcclMapping.Element(factor, type), ncclType, handle));
        return _preMulSums[(ncclType, factor)] = made;
    }

    /// <summary>An error of the network, a device or another rank that NCCL has noticed meanwhile.</summary>
    public DistributedException? FindAsyncError(string text)
    {
        lock (_calls)
        {
            if (_isGone)
                return null;
            var state = _world.Nccl.AsyncResult(_handle);
            return state is NcclResult.Success or NcclResult.InProgress ? null : Describe(_world.Nccl.Failure("the communicator", state, _handle), text);
        }
    }

    /// <summary>Whether an event of this communicator has passed. One of an aborted communicator never does: its results are worth nothing.</summary>
    public bool HasPassed(IntPtr done)
    {
        if (Volatile.Read(ref _isGone))
            return false;
        try
        {
            _world.Cuda.MakeCurrent(_world.DeviceIndex);
            return _world.Cuda.HasPassed(done);
        }
        catch (CudaException e)
        {
            throw _world.Fail(Describe(e, "waiting for an operation"));
        }
    }

    public void HaveComputationWaitFor(IntPtr done)
    {
        if (Volatile.Read(ref _isGone))
            return;
        _world.Cuda.MakeCurrent(_world.DeviceIndex);
        _world.Cuda.WaitOnStream(_world.Cuda.CurrentStream(_world.DeviceIndex), done);
    }

    public void GiveBack(IntPtr done)
    {
        lock (_freeEvents)
            _freeEvents.Push(done);
    }

    /// <summary>Takes an event for something outside of this communicator's stream; to be given back.</summary>
    public IntPtr TakeEvent()
    {
        lock (_freeEvents)
            if (_freeEvents.TryPop(out var free))
                return free;
        return _world.Cuda.CreateEvent();
    }

    /// <summary>Ends what is running, kernels included: the only thing that brings a rank out of an operation that others do not join.</summary>
    public void Abort()
    {
        var entered = Monitor.TryEnter(_calls, AbortPatience); // who does not come out is brought out by this
        try
        {
            if (_isGone)
                return;
            Volatile.Write(ref _isGone, true);
            if (_handle == IntPtr.Zero)
                return;
            _world.Cuda.MakeCurrent(_world.DeviceIndex);
            _world.Nccl.Abort(_handle);
        }
        finally
        {
            if (entered)
                Monitor.Exit(_calls);
        }
    }

    /// <summary>Leaves: in order where nothing is under way, else as <see cref="Abort"/> does.</summary>
    public void Dispose()
    {
        _world.Remove(this);
        lock (Order)
        {
            while (_inFlight.TryPeek(out var oldest) && oldest.HasPassed())
                _inFlight.Dequeue();
            if (_inFlight.Count == 0)
                SayFarewell();
            Abort();
            foreach (var work in _inFlight)
                work.Abandon();
            _inFlight.Clear();
            ReleaseCuda();
        }
    }

    private void SayFarewell()
    {
        lock (_calls)
        {
            if (_isGone)
                return;
            _world.Cuda.MakeCurrent(_world.DeviceIndex);
            foreach (var reduction in _preMulSums.Values)
                _world.Nccl.DestroyReduction(reduction, _handle);
            var deadline = Deadline.After(FarewellLimit);
            var state = _world.Nccl.BeginFinalize(_handle);
            for (var pause = new NcclPause(); state == NcclResult.InProgress && !deadline.HasPassed; pause.Next())
                state = _world.Nccl.AsyncResult(_handle);
            if (state != NcclResult.Success)
                return;
            _world.Nccl.Destroy(_handle);
            Volatile.Write(ref _isGone, true);
        }
    }

    private void ReleaseCuda()
    {
        if (_isReleased)
            return;
        _isReleased = true;
        try
        {
            _world.Cuda.MakeCurrent(_world.DeviceIndex);
            lock (_freeEvents)
                while (_freeEvents.TryPop(out var free))
                    _world.Cuda.DestroyEvent(free);
            _world.Cuda.DestroyEvent(_ready);
            _world.Cuda.DestroyStream(_stream);
        }
        catch (CudaException)
        {
            // after an error of the device nothing can be freed
        }
    }

    private void Settle(NcclResult result, string function, string text)
    {
        if (result == NcclResult.Success)
            return;
        var deadline = Deadline.After(_world.Timeout);
        for (var pause = new NcclPause(); result == NcclResult.InProgress; pause.Next())
        {
            if (_world.Failure is { } failure)
                throw failure;
            _world.Line.ThrowIfBroken(text);
            if (deadline.HasPassed)
                throw _world.Fail(_world.Line.TimedOut(text, _world.Timeout, $"{function} did not end; NCCL_DEBUG=INFO shows what NCCL waits for"));
            lock (_calls)
            {
                ThrowIfGone();
                result = _world.Nccl.AsyncResult(_handle);
            }
        }

        Require(result, function);
    }

    private void Require(NcclResult result, string function)
    {
        if (result is not (NcclResult.Success or NcclResult.InProgress))
            throw _world.Nccl.Failure(function, result, _handle);
    }

    private void ThrowIfGone()
    {
        if (_isGone)
            throw _world.Failure ?? new DistributedException($"{_world.Me}: this part of the process group was disposed.");
    }

    private DistributedException Describe(Exception cause, string text) => new(
        $"{_world.Me}: {text} failed on {_world.TensorDevice}: {cause.Message} " +
        (cause.Message.Contains("Duplicate GPU", StringComparison.OrdinalIgnoreCase)
            ? "Two ranks use the same GPU: give each rank one of its own (devices: n with n GPUs, CUDA_VISIBLE_DEVICES that do not overlap)."
            : "NCCL_DEBUG=WARN has NCCL say more on standard error."), cause);
}
