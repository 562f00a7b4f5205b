using System.Collections.Concurrent;
using FabricSharp.Interop.LibTorch;
using FabricSharp.Interop.Nccl;
using static TorchSharp.torch;

namespace FabricSharp.Collectives.Nccl;

/// <summary>
/// Messages between two ranks. NCCL knows no tags, and a send that nobody receives holds up everything behind it on its stream; so the hub brings
/// both sides together first, and only messages that have found their partner are given to NCCL, on a communicator of the two ranks, in the hub's order, which is
/// the same on both. A thread of its own does that: callers do not wait.
/// </summary>
internal sealed class NcclMessages : IDisposable
{
    private readonly NcclWorld _world;
    private readonly NcclCommunicator _events;
    private readonly Lock _gate = new();
    private readonly Dictionary<long, NcclMessageWork> _announced = [];
    private readonly BlockingCollection<NcclMessageWork> _matched = [];
    private readonly Dictionary<int, NcclCommunicator> _pairs = [];
    private Thread? _thread;

    /// <param name="world">The group.</param>
    /// <param name="events">Lends events.</param>
    public NcclMessages(NcclWorld world, NcclCommunicator events)
    {
        _world = world;
        _events = events;
        world.Line.OnGo = Matched;
    }

    public Work Send(Tensor tensor, int destination, int tag) => Start(tensor, true, destination, tag, $"Send of {tensor.numel()} × {tensor.dtype} to {_world.NameOf(destination)} with tag {tag}");

    public Work Receive(Tensor tensor, int source, int tag) => Start(tensor, false, source, tag, $"Recv of {tensor.numel()} × {tensor.dtype} from {_world.NameOf(source)} with tag {tag}");

    public void Dispose()
    {
        lock (_gate)
            _matched.CompleteAdding();
    }

    private NcclMessageWork Start(Tensor tensor, bool isOutgoing, int peer, int tag, string text)
    {
        _world.ThrowIfFailed();
        _world.Cuda.MakeCurrent(_world.DeviceIndex);
        var ready = _events.TakeEvent();
        _world.Cuda.Record(ready, _world.Cuda.CurrentStream(_world.DeviceIndex));
        var bytes = tensor.numel() * tensor.dtype.SizeInBytes();
        var work = new NcclMessageWork(_world, isOutgoing, peer, text, tensor)
        {
            Data = bytes == 0 ? IntPtr.Zero : TensorMemory.PointerOf(tensor),
            Bytes = bytes,
            Ready = ready,
        };
        lock (_gate)
        {
            _thread ??= StartThread();
            work.Number = _world.Line.Announce(isOutgoing, peer, tag, tensor.numel(), (int)tensor.dtype);
            _announced.Add(work.Number, work);
        }

        return work;
    }

    private Thread StartThread()
    {
        var thread = new Thread(Run) { IsBackground = true, Name = $"messages of rank {_world.Rank}" };
        thread.Start();
        return thread;
    }

    /// <summary>On the control line's thread.</summary>
    private void Matched(long number)
    {
        lock (_gate)
            if (_announced.Remove(number, out var work) && !_matched.IsAddingCompleted)
                _matched.Add(work);
    }

    private void Run()
    {
        try
        {
            foreach (var work in _matched.GetConsumingEnumerable())
                Launch(work);
        }
        catch (Exception e)
        {
            _world.Fail(e as DistributedException ?? new DistributedException($"{_world.Me}: a message could not be started: {e.Message}", e)); // shown by the waits
        }
    }

    private void Launch(NcclMessageWork work)
    {
        var pair = PairWith(work.Peer);
        var (function, other) = (work.IsOutgoing ? "ncclSend" : "ncclRecv", _world.Rank < work.Peer ? 1 : 0);
        pair.Begin(work, work.Bytes == 0 ? null : () => pair.Call(function, work.Text, handle => work.IsOutgoing
            ? _world.Nccl.Send(work.Data, work.Bytes, NcclType.UInt8, other, handle, pair.Stream)
            : _world.Nccl.Receive(work.Data, work.Bytes, NcclType.UInt8, other, handle, pair.Stream)), work.Ready);
        _events.GiveBack(work.Ready);
    }

    /// <summary>Made at the first message between two ranks, when both sides are known to have called. Both sides come here in the same order.</summary>
    private NcclCommunicator PairWith(int peer)
    {
        if (_pairs.TryGetValue(peer, out var pair))
            return pair;
        var (low, high) = (Math.Min(_world.Rank, peer), Math.Max(_world.Rank, peer));
        return _pairs[peer] = new NcclCommunicator(_world, $"pair {low} {high}", _world.Rank == low ? 0 : 1, 2);
    }
}
