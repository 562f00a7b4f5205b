using System.Runtime.InteropServices;
using FabricSharp.Interop.Nccl;

namespace FabricSharp.Tests.Collectives.Nccl;

internal sealed record FakeTransfer(bool IsOutgoing, int Peer, IntPtr Data, long Bytes);

/// <summary>The ranks that share one identity.</summary>
internal sealed class FakeClique(int size)
{
    private int _joined;

    public int Size => size;

    public object Gate { get; } = new();

    public bool IsComplete => Volatile.Read(ref _joined) == size;

    public Dictionary<long, FakeMeeting> Meetings { get; } = [];

    /// <summary>What was sent and not received, by sender and receiver.</summary>
    public Dictionary<(int, int), Queue<FakeParcel>> Parcels { get; } = [];

    public void Join() => Interlocked.Increment(ref _joined);
}

/// <summary>One collective operation: each rank's input, and who has taken the result.</summary>
internal sealed class FakeMeeting(int size)
{
    public string?[] Calls { get; } = new string?[size];

    public IntPtr[] Inputs { get; } = new IntPtr[size];

    public byte[][]? Copies { get; set; }

    /// <summary>What every rank gets, where it is the same.</summary>
    public byte[]? Result { get; set; }

    public int Arrived { get; set; }

    public int Finished { get; set; }
}

internal sealed class FakeParcel(IntPtr data, long bytes)
{
    public IntPtr Data => data;

    public long Bytes => bytes;

    public bool IsTaken { get; set; }
}

/// <summary>One rank's communicator.</summary>
internal sealed unsafe class FakeCommunicator(FakeClique clique, int rank, int device)
{
    private static long _handles = 5_000_000;

    private readonly Dictionary<int, double> _factors = [];
    private long _sequence;
    private int _factorsMade;
    private volatile bool _aborted;
    private Action? _pending;
    private bool _wasAsked;

    public IntPtr Handle { get; } = (IntPtr)Interlocked.Increment(ref _handles);

    public int Rank => rank;

    public int Device => device;

    public bool IsAborted => _aborted;

    /// <summary>What the communicator reports from now on.</summary>
    public NcclResult AsyncError { get; set; }

    /// <summary>Whether a call was begun that nobody has waited for.</summary>
    public bool IsPending => _pending is not null;

    public int PreMulSums => _factors.Count;

    public FakeCuda.FakeStream? TransferStream { get; set; }

    /// <summary>Does it when it is asked about the second time.</summary>
    public NcclResult Defer(Action action)
    {
        _pending = action;
        _wasAsked = false;
        return NcclResult.InProgress;
    }

    public NcclResult Poll()
    {
        if (AsyncError != NcclResult.Success)
            return AsyncError;
        if (!clique.IsComplete)
            return NcclResult.InProgress;
        if (_pending is not { } action)
            return NcclResult.Success;
        if (!_wasAsked)
        {
            _wasAsked = true;
            return NcclResult.InProgress;
        }

        action();
        _pending = null;
        return NcclResult.Success;
    }

    public double FactorOf(int op) => _factors.GetValueOrDefault(op, 1);

    public int AddFactor(double factor)
    {
        var op = 5 + _factorsMade++;
        _factors[op] = factor;
        return op;
    }

    public bool RemoveFactor(int op) => _factors.Remove(op);

    public void Abort()
    {
        _aborted = true;
        lock (clique.Gate)
            Monitor.PulseAll(clique.Gate);
    }

    /// <summary>On the stream's thread: waits for all ranks, as a kernel does. Ranks that call something else wait for ever.</summary>
    public void Run(string call, IntPtr input, Action<FakeMeeting> finish)
    {
        lock (clique.Gate)
        {
            var number = _sequence++;
            if (!clique.Meetings.TryGetValue(number, out var meeting))
                clique.Meetings[number] = meeting = new FakeMeeting(clique.Size);
            (meeting.Calls[rank], meeting.Inputs[rank]) = (call, input);
            meeting.Arrived++;
            Monitor.PulseAll(clique.Gate);
            while (!_aborted && (meeting.Arrived < clique.Size || meeting.Calls.Any(each => each != call)))
                Monitor.Wait(clique.Gate);
            if (_aborted)
                return;
            meeting.Copies ??= [.. meeting.Inputs.Select(one => FakeReduction.Snapshot(one, FakeReduction.InputBytesOf(call, clique.Size)))];
            finish(meeting);
            if (++meeting.Finished == clique.Size)
                clique.Meetings.Remove(number);
        }
    }

    /// <summary>On the stream's thread: sends and receives at once.</summary>
    public void Exchange(List<FakeTransfer> transfers)
    {
        lock (clique.Gate)
        {
            var sent = new List<FakeParcel>();
            foreach (var transfer in transfers.Where(each => each.IsOutgoing))
            {
                var parcel = new FakeParcel(transfer.Data, transfer.Bytes);
                Box(rank, transfer.Peer).Enqueue(parcel);
                sent.Add(parcel);
            }

            Monitor.PulseAll(clique.Gate);
            foreach (var transfer in transfers.Where(each => !each.IsOutgoing))
                Take(transfer);
            while (!_aborted && !sent.TrueForAll(parcel => parcel.IsTaken))
                Monitor.Wait(clique.Gate);
        }
    }

    private void Take(FakeTransfer transfer)
    {
        var box = Box(transfer.Peer, rank);
        while (!_aborted && box.Count == 0)
            Monitor.Wait(clique.Gate);
        if (_aborted)
            return;
        var parcel = box.Dequeue();
        if (parcel.Bytes == transfer.Bytes) // else it never ends well
            NativeMemory.Copy((void*)parcel.Data, (void*)transfer.Data, (nuint)parcel.Bytes);
        parcel.IsTaken = true;
        Monitor.PulseAll(clique.Gate);
    }

    private Queue<FakeParcel> Box(int from, int to) =>
        clique.Parcels.TryGetValue((from, to), out var box) ? box : clique.Parcels[(from, to)] = new Queue<FakeParcel>();
}
