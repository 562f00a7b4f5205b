using System.Diagnostics;
using System.Net.Sockets;
using FabricSharp.Collectives.Stores;

namespace FabricSharp.Collectives.Control;

/// <summary>
/// A rank's control connection to the hub of its group: what it calls is compared with what the others call, small messages are exchanged, and failures
/// of other ranks are heard of. Thread-safe. A group of one rank has nobody to talk to: its line answers itself.
/// </summary>
internal sealed class ControlLine : IDisposable
{
    /// <summary>What a rank may say about its end: a longer text is cut off.</summary>
    private const int MaxReasonLength = 4000;

    /// <summary>How long the hub may take to say who is missing.</summary>
    private static readonly TimeSpan QueryLimit = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan Spinning = TimeSpan.FromMicroseconds(Environment.ProcessorCount > 2 ? 100 : 0);

    private readonly ControlSocket? _socket;
    private readonly IReadOnlyList<int> _globalRanks;
    private readonly object _gate = new();
    private readonly Dictionary<(int Channel, long Number), byte[]> _answers = [];
    private readonly Dictionary<long, int[]> _missing = [];
    private readonly Dictionary<int, Dictionary<int, long>> _left = [];
    private readonly Dictionary<int, long> _numbers = [];
    private readonly Dictionary<int, long> _agreed = [];
    private readonly HashSet<long> _unmatched = [];
    private long _heard;
    private long _messages;
    private long _queries;
    private (int Rank, string Reason)? _failed;
    private string? _verdict;

    /// <summary>Whether a rank has failed, left, or called something else: waits look at this alone as long as all is well.</summary>
    private volatile bool _hasNews;
    private bool _disposed;

    /// <param name="socket">To the hub, which has let the rank in; null for a group of one.</param>
    /// <param name="rank">This rank.</param>
    /// <param name="globalRanks">How messages name the ranks.</param>
    public ControlLine(ControlSocket? socket, int rank, IReadOnlyList<int> globalRanks)
    {
        _socket = socket;
        Rank = rank;
        _globalRanks = globalRanks;
        if (socket is not null)
            new Thread(Listen) { IsBackground = true, Name = $"control line of rank {rank}" }.Start();
    }

    public int Rank { get; }

    public int Size => _globalRanks.Count;

    /// <summary>What is to be done, on the listening thread, when a message has found its partner. Must not wait.</summary>
    public Action<long> OnGo { get; set; } = _ => { };

    private string Me => $"R{NameOf(Rank)[1..]}";

    /// <summary>Tells what this rank calls as its next operation on a channel. Does not wait: see <see cref="IsAgreed"/>.</summary>
    /// <returns>The operation's number.</returns>
    public long Call(int channel, string text) => Call(channel, text, [], wantsAnswer: false);

    /// <summary>The same with bytes for the others; theirs must be taken with <see cref="Answer"/>.</summary>
    public long CallForAnswer(int channel, string text, ReadOnlySpan<byte> bytes) => Call(channel, text, bytes, wantsAnswer: true);

    /// <summary>Whether all ranks have called the operation, and alike.</summary>
    public bool IsAgreed(int channel, long number)
    {
        lock (_gate)
            return _socket is null || _agreed.GetValueOrDefault(channel) >= number;
    }

    /// <summary>Waits until every rank has called the operation; returns every rank's bytes, in order.</summary>
    /// <exception cref="DistributedException">Some rank did not call in time, failed, left, or called something else.</exception>
    public byte[] Answer(int channel, long number, string text, TimeSpan limit)
    {
        if (AnswerOrNull(channel, number, text, limit) is { } answer)
            return answer;
        throw TimedOut(text, limit, MissingFor(channel, number));
    }

    /// <summary>The same; null when the limit has passed.</summary>
    public byte[]? AnswerOrNull(int channel, long number, string text, TimeSpan limit)
    {
        var deadline = Deadline.After(limit);
        using var watch = new ControlWait(this, channel, number, text);
        SpinUntilHeardOf(); // most answers come sooner than a sleeping thread wakes up
        lock (_gate)
            while (true)
            {
                if (_answers.Remove((channel, number), out var answer))
                    return answer;
                ThrowIfCannotEnd(channel, number, text);
                var left = deadline.Remaining;
                if (left == TimeSpan.Zero)
                    return null;
                Monitor.Wait(_gate, left < ControlWait.Interval ? left : ControlWait.Interval);
                watch.Look();
            }
    }

    private void SpinUntilHeardOf()
    {
        var heard = Volatile.Read(ref _heard);
        var begin = Stopwatch.GetTimestamp();
        while (Volatile.Read(ref _heard) == heard && Stopwatch.GetElapsedTime(begin) < Spinning)
            Thread.SpinWait(10);
    }

    /// <summary>Tells of a message to be sent or received. <see cref="OnGo"/> is called with its number when it has found its partner.</summary>
    public long Announce(bool isOutgoing, int peer, int tag, long elementCount, int type)
    {
        lock (_gate)
        {
            var number = ++_messages;
            _unmatched.Add(number);
            Send(ControlFrame.Message, writer =>
            {
                writer.Write(number);
                writer.Write(isOutgoing);
                writer.Write(peer);
                writer.Write(tag);
                writer.Write(elementCount);
                writer.Write(type);
            });
            return number;
        }
    }

    /// <summary>The ranks that have not called the operation, this one not among them; none where the hub does not answer.</summary>
    public IReadOnlyList<int> MissingFor(int channel, long number)
    {
        var query = Interlocked.Increment(ref _queries);
        Send(ControlFrame.Query, writer =>
        {
            writer.Write(query);
            writer.Write(channel);
            writer.Write(number);
        });
        var deadline = Deadline.After(QueryLimit);
        lock (_gate)
        {
            int[]? ranks;
            while (!_missing.Remove(query, out ranks) && _failed is null && !deadline.HasPassed)
                Monitor.Wait(_gate, deadline.Remaining);
            return ranks ?? [];
        }
    }

    /// <summary>Throws when no operation can end well any more, because of what other ranks did.</summary>
    public void ThrowIfBroken(string text)
    {
        if (!_hasNews)
            return;
        lock (_gate)
            ThrowVerdict(text);
    }

    /// <summary>Throws when the operation cannot end well any more, because of what other ranks did.</summary>
    public void ThrowIfCannotEnd(int channel, long number, string text)
    {
        if (!_hasNews)
            return;
        lock (_gate)
        {
            ThrowVerdict(text);
            foreach (var (rank, last) in _left)
                if (last.GetValueOrDefault(channel) < number)
                    throw HasLeft(text, rank);
        }
    }

    /// <summary>The same of a message.</summary>
    public void ThrowIfMessageCannotEnd(long number, int peer, string text)
    {
        if (!_hasNews)
            return;
        lock (_gate)
        {
            ThrowVerdict(text);
            if (_left.ContainsKey(peer) && _unmatched.Contains(number))
                throw HasLeft(text, peer);
        }
    }

    /// <summary>The failure of an operation that was waited for too long.</summary>
    public DistributedTimeoutException TimedOut(string text, TimeSpan limit, IReadOnlyList<int> missing) => TimedOut(
        text, limit, missing.Count == 0 ? "every rank called it, but the data did not come" : $"{RankName.OfAll([.. missing], _globalRanks)} did not call it");

    public DistributedTimeoutException TimedOut(string text, TimeSpan limit, string why) => new(
        $"{Me}: {text} timed out after {limit.TotalSeconds:0.###} s: {why}. " +
        "Did a rank take another branch, run out of data, or is it just slow? A longer limit is set with the strategy's timeout.");

    public string NameOf(int rank) => RankName.Of(rank, _globalRanks);

    /// <summary>Tells the other ranks that this one cannot go on.</summary>
    public void Abort(string reason) =>
        Send(ControlFrame.Abort, writer => writer.Write(reason.Length <= MaxReasonLength ? reason : reason[..MaxReasonLength] + " …"));

    /// <summary>Leaves the group.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_disposed)
                return;
            _disposed = true;
        }

        Send(ControlFrame.Leave);
        _socket?.EndSending(); // the listening thread closes the connection when the hub has done so
    }

    /// <summary>To be called now and then while something is waited for.</summary>
    internal void TellWaiting(int channel, long number, string text) => Send(ControlFrame.Waiting, writer =>
    {
        writer.Write(channel);
        writer.Write(number);
        writer.Write(text);
    });

    internal void TellResumed() => Send(ControlFrame.Resumed);

    private long Call(int channel, string text, ReadOnlySpan<byte> bytes, bool wantsAnswer)
    {
        lock (_gate)
        {
            var number = _numbers[channel] = _numbers.GetValueOrDefault(channel) + 1;
            if (_socket is null)
            {
                if (wantsAnswer)
                    _answers[(channel, number)] = bytes.ToArray();
                return number;
            }

            var content = bytes.ToArray();
            Send(ControlFrame.Call, writer =>
            {
                writer.Write(channel);
                writer.Write(number);
                writer.Write(wantsAnswer);
                writer.Write(text);
                writer.Write(content.Length);
                writer.Write(content);
            });
            return number;
        }
    }

    private void Send(ControlFrame kind, Action<BinaryWriter>? write = null)
    {
        try
        {
            _socket?.Send(kind, write);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            HubIsGone(); // waits then end with this
        }
    }

    private void Listen()
    {
        try
        {
            while (_socket!.Receive() is { } frame)
                Handle(frame.Kind, frame.Content);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidDataException or IOException or ArgumentException or FormatException)
        {
            // as when the hub closes the connection
        }

        HubIsGone();
        _socket!.Dispose();
    }

    private void Handle(ControlFrame kind, BinaryReader content)
    {
        switch (kind)
        {
            case ControlFrame.Answer:
                Update(() => OnAnswer(content));
                break;
            case ControlFrame.Go:
                var number = content.ReadInt64();
                Update(() => _unmatched.Remove(number));
                OnGo(number);
                break;
            case ControlFrame.Missing:
                Update(() => _missing[content.ReadInt64()] = ReadInts(content));
                break;
            case ControlFrame.Mismatch:
                Learn(() => _verdict ??= DescribeMismatch(content));
                break;
            case ControlFrame.Refused:
                Learn(() => _verdict ??= DescribeRefusal(content));
                break;
            case ControlFrame.Diverged:
                Learn(() => _verdict ??= DescribeStandstill(content));
                break;
            case ControlFrame.Failed:
                Learn(() => _failed ??= (content.ReadInt32(), content.ReadString()));
                break;
            case ControlFrame.Left:
                Learn(() => _left[content.ReadInt32()] = ReadLast(content));
                break;
            default:
                throw new InvalidDataException($"A frame of kind {kind}.");
        }
    }

    /// <summary>The calls of a channel are agreed upon in their order.</summary>
    private void OnAnswer(BinaryReader content)
    {
        var (channel, number, wanted) = (content.ReadInt32(), content.ReadInt64(), content.ReadBoolean());
        _agreed[channel] = number;
        if (wanted)
            _answers[(channel, number)] = content.ReadBytes(content.ReadInt32());
    }

    private void Update(Action change)
    {
        lock (_gate)
        {
            change();
            _heard++;
            Monitor.PulseAll(_gate);
        }
    }

    private void Learn(Action change)
    {
        Update(change);
        _hasNews = true;
    }

    /// <summary>The hub is in rank 0's process.</summary>
    private void HubIsGone()
    {
        if (!Volatile.Read(ref _disposed))
            Learn(() => _failed ??= (0, "its process has ended, or the connection to it is lost"));
    }

    private void ThrowVerdict(string text)
    {
        if (_verdict is not null)
            throw new CollectiveMismatchException($"{Me}: {_verdict}");
        if (_failed is { } failed)
            throw new PeerFailedException($"{Me}: {text} cannot complete because {NameOf(failed.Rank)} failed: {failed.Reason}", failed.Rank, failed.Reason);
    }

    private PeerFailedException HasLeft(string text, int rank)
    {
        const string Reason = "it has left the group (disposed it, or its program ended)";
        return new PeerFailedException($"{Me}: {text} cannot complete because {NameOf(rank)} failed: {Reason}", rank, Reason);
    }

    private string DescribeMismatch(BinaryReader content)
    {
        _ = content.ReadInt32();
        var number = content.ReadInt64();
        var calls = Enumerable.Range(0, Size).Select(rank => $"{NameOf(rank)} called {content.ReadString()}").ToList();
        return $"the ranks called different collectives as operation {number} of their channel: {string.Join("; ", calls)}. All ranks must call the same operations in the same order with the same sizes and types.";
    }

    private string DescribeRefusal(BinaryReader content)
    {
        var (sender, receiver, tag) = (content.ReadInt32(), content.ReadInt32(), content.ReadInt32());
        var sent = $"{content.ReadInt64()} × {(TorchSharp.torch.ScalarType)content.ReadInt32()}";
        var expected = $"{content.ReadInt64()} × {(TorchSharp.torch.ScalarType)content.ReadInt32()}";
        return $"{NameOf(sender)} sends {sent} to {NameOf(receiver)} with tag {tag}, which receives {expected}. Both sides must name the same element count and data type.";
    }

    private string DescribeStandstill(BinaryReader content)
    {
        var waits = Enumerable.Range(0, Size).Select(rank => $"{NameOf(rank)} waits in {content.ReadString()}").ToList();
        return $"The ranks wait for each other in different operations, and none can go on: {string.Join("; ", waits)}. " +
            "All ranks must call the same collective operations in the same order: did one leave a step out, run out of data, or take another branch?";
    }

    private static int[] ReadInts(BinaryReader content)
    {
        var ints = new int[content.ReadInt32()];
        for (var i = 0; i < ints.Length; i++)
            ints[i] = content.ReadInt32();
        return ints;
    }

    private static Dictionary<int, long> ReadLast(BinaryReader content)
    {
        var last = new Dictionary<int, long>();
        for (var count = content.ReadInt32(); count > 0; count--)
            last[content.ReadInt32()] = content.ReadInt64();
        return last;
    }
}
