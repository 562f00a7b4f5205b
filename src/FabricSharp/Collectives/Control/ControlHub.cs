using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;

namespace FabricSharp.Collectives.Control;

/// <summary>
/// Where the control connections of a group meet, in the process of its rank 0: compares what the ranks call, collects small messages, brings senders and
/// receivers together, and tells everyone when a rank fails, leaves or vanishes. See docs/reference/engines-nccl.md, "The control connection".
/// </summary>
internal sealed class ControlHub : IDisposable
{
    /// <summary>How long all ranks must have waited for each other before that counts as a standstill.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan HelloLimit = TimeSpan.FromSeconds(10);

    private readonly int _size;
    private readonly byte[] _secret;
    private readonly TcpListener _listener;
    private readonly Lock _gate = new();
    private readonly ControlSocket?[] _sockets;
    private readonly bool[] _ended;
    private readonly Wait?[] _waits;
    private readonly Dictionary<(int Channel, long Number), Call> _calls = [];
    private readonly Dictionary<int, long[]> _lastCalls = [];
    private readonly Dictionary<(int From, int To, int Tag), Meeting> _meetings = [];

    /// <summary>What was told to all before all had come: a rank that is let in later hears it, too.</summary>
    private readonly List<(int Except, ControlFrame Kind, Action<BinaryWriter>? Write)> _news = [];
    private int _joined;
    private bool _diverged;

    /// <param name="size">The number of ranks.</param>
    /// <param name="secret">What a rank has to say to be let in.</param>
    /// <param name="address">Where to listen.</param>
    public ControlHub(int size, byte[] secret, IPAddress address)
    {
        _size = size;
        _secret = secret;
        _sockets = new ControlSocket?[size];
        _ended = new bool[size];
        _waits = new Wait?[size];
        _listener = new TcpListener(address, 0);
        _listener.Start(size + 16);
        Start(AcceptAll, "control hub");
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>Lets no further rank in. The connections live on until the ranks end them.</summary>
    public void Dispose() => _listener.Dispose();

    private static void Start(Action body, string name) => new Thread(() => body()) { IsBackground = true, Name = name }.Start();

    private void AcceptAll()
    {
        try
        {
            while (Volatile.Read(ref _joined) < _size)
            {
                var socket = new ControlSocket(_listener.AcceptSocket());
                Start(() => Serve(socket), "control hub, one rank");
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
        {
            // disposed
        }

        _listener.Dispose();
    }

    private void Serve(ControlSocket socket)
    {
        var rank = -1;
        var left = false;
        try
        {
            rank = Admit(socket);
            while (rank >= 0 && !left && socket.Receive() is { } frame)
                lock (_gate)
                    left = !Handle(rank, frame.Kind, frame.Content);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidDataException or IOException or ArgumentException or FormatException)
        {
            // the end of the connection is told below
        }

        if (rank >= 0 && !left)
            lock (_gate)
                End(rank, ControlFrame.Failed, writer =>
                {
                    writer.Write(rank);
                    writer.Write("its process has ended without leaving the group (killed, crashed or out of memory), or its connection is lost");
                });
        socket.Dispose();
    }

    /// <summary>The rank of a new connection; -1 where it is none of ours.</summary>
    private int Admit(ControlSocket socket)
    {
        socket.ReceiveLimit = HelloLimit;
        if (socket.Receive() is not { Kind: ControlFrame.Hello } hello)
            return -1;
        var secret = hello.Content.ReadBytes(_secret.Length);
        var rank = hello.Content.ReadInt32();
        lock (_gate)
        {
            if (!CryptographicOperations.FixedTimeEquals(secret, _secret) || rank < 0 || rank >= _size || _sockets[rank] is not null)
                return -1;
            _sockets[rank] = socket;
            _joined++;
            foreach (var (except, kind, write) in _news)
                if (except != rank)
                    Send(rank, kind, write);
        }

        socket.ReceiveLimit = TimeSpan.Zero;
        if (Volatile.Read(ref _joined) == _size)
            _listener.Dispose(); // ends the accepting, too
        return rank;
    }

    /// <summary>False when nothing more will come.</summary>
    private bool Handle(int rank, ControlFrame kind, BinaryReader content)
    {
        switch (kind)
        {
            case ControlFrame.Call:
                OnCall(rank, content.ReadInt32(), content.ReadInt64(), content.ReadBoolean(), content.ReadString(), content.ReadBytes(content.ReadInt32()));
                return true;
            case ControlFrame.Message:
                OnMessage(new Message(rank, content.ReadInt64(), content.ReadBoolean(), content.ReadInt32(), content.ReadInt32(), content.ReadInt64(), content.ReadInt32()));
                return true;
            case ControlFrame.Query:
                OnQuery(rank, content.ReadInt64(), content.ReadInt32(), content.ReadInt64());
                return true;
            case ControlFrame.Waiting:
                OnWaiting(rank, new Wait(content.ReadInt32(), content.ReadInt64(), content.ReadString(), Stopwatch.GetTimestamp()));
                return true;
            case ControlFrame.Resumed:
                _waits[rank] = null;
                return true;
            case ControlFrame.Abort:
                var reason = content.ReadString();
                Broadcast(rank, ControlFrame.Failed, writer =>
                {
                    writer.Write(rank);
                    writer.Write(reason);
                });
                return true;
            case ControlFrame.Leave:
                End(rank, ControlFrame.Left, writer => WriteLeft(writer, rank));
                return false;
            default:
                throw new InvalidDataException($"A frame of kind {kind}.");
        }
    }

    private void OnCall(int rank, int channel, long number, bool wantsAnswer, string text, byte[] bytes)
    {
        if (!_lastCalls.TryGetValue(channel, out var last))
            _lastCalls[channel] = last = new long[_size];
        last[rank] = number;
        _waits[rank] = null;
        if (!_calls.TryGetValue((channel, number), out var call))
            _calls[(channel, number)] = call = new Call(_size);
        call.Add(rank, text, bytes, wantsAnswer);
        if (call.Count < _size)
            return;
        _calls.Remove((channel, number));
        if (call.IsAgreed)
            Answer(call, channel, number);
        else
            Broadcast(-1, ControlFrame.Mismatch, writer =>
            {
                writer.Write(channel);
                writer.Write(number);
                Array.ForEach(call.Texts, one => writer.Write(one!));
            });
    }

    /// <summary>To the own rank last: when it goes on, and perhaps ends its process, the others have been told.</summary>
    private void Answer(Call call, int channel, long number)
    {
        for (var rank = _size - 1; rank >= 0; rank--)
        {
            var parts = call.WantsAnswer[rank] ? call.Bytes : [];
            Send(rank, ControlFrame.Answer, writer =>
            {
                writer.Write(channel);
                writer.Write(number);
                writer.Write(parts.Length > 0);
                writer.Write(parts.Sum(bytes => bytes!.Length));
                Array.ForEach(parts, bytes => writer.Write(bytes!));
            });
        }
    }

    private void OnMessage(Message message)
    {
        _waits[message.Rank] = null;
        var key = message.IsOutgoing ? (message.Rank, message.Peer, message.Tag) : (message.Peer, message.Rank, message.Tag);
        if (!_meetings.TryGetValue(key, out var meeting))
            _meetings[key] = meeting = new Meeting();
        if (!meeting.TryMeet(message, out var partner))
            return;
        var (sent, received) = message.IsOutgoing ? (message, partner) : (partner, message);
        if (sent.ElementCount == received.ElementCount && sent.Type == received.Type)
        {
            Send(sent.Rank, ControlFrame.Go, writer => writer.Write(sent.Number));
            Send(received.Rank, ControlFrame.Go, writer => writer.Write(received.Number));
            return;
        }

        foreach (var rank in new[] { sent.Rank, received.Rank })
            Send(rank, ControlFrame.Refused, writer =>
            {
                foreach (var number in new[] { sent.Rank, received.Rank, sent.Tag })
                    writer.Write(number);
                foreach (var side in new[] { sent, received })
                {
                    writer.Write(side.ElementCount);
                    writer.Write(side.Type);
                }
            });
    }

    private void OnQuery(int rank, long query, int channel, long number)
    {
        var missing = Enumerable.Range(0, _size).Where(other => _lastCalls.TryGetValue(channel, out var last) && last[other] < number).ToArray();
        Send(rank, ControlFrame.Missing, writer =>
        {
            writer.Write(query);
            writer.Write(missing.Length);
            Array.ForEach(missing, writer.Write);
        });
    }

    /// <summary>When every rank waits for something that some rank has not called, none will ever go on.</summary>
    private void OnWaiting(int rank, Wait wait)
    {
        _waits[rank] = _waits[rank] is { } before && before.Channel == wait.Channel && before.Number == wait.Number ? before : wait;
        if (_diverged || !_waits.All(one => one is not null && IsBlocked(one) && Stopwatch.GetElapsedTime(one.Since) >= Patience))
            return;
        _diverged = true;
        Broadcast(-1, ControlFrame.Diverged, writer => Array.ForEach(_waits, one => writer.Write(one!.Text)));
    }

    private bool IsBlocked(Wait wait) => wait.Channel == 0
        ? _meetings.Values.Any(meeting => meeting.Waiting.Any(message => message.Number == wait.Number && _waits[message.Rank] == wait))
        : _calls.ContainsKey((wait.Channel, wait.Number));

    private void WriteLeft(BinaryWriter writer, int rank)
    {
        writer.Write(rank);
        writer.Write(_lastCalls.Count);
        foreach (var (channel, last) in _lastCalls)
        {
            writer.Write(channel);
            writer.Write(last[rank]);
        }
    }

    private void End(int rank, ControlFrame kind, Action<BinaryWriter> write)
    {
        _ended[rank] = true;
        _waits[rank] = null;
        Broadcast(rank, kind, write);
    }

    private void Broadcast(int except, ControlFrame kind, Action<BinaryWriter>? write)
    {
        if (_joined < _size)
            _news.Add((except, kind, write));
        for (var rank = 0; rank < _size; rank++)
            if (rank != except)
                Send(rank, kind, write);
    }

    private void Send(int rank, ControlFrame kind, Action<BinaryWriter>? write)
    {
        if (_ended[rank] || _sockets[rank] is not { } socket)
            return;
        try
        {
            socket.Send(kind, write);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // the rank's own thread notices
        }
    }

    /// <summary>A call that not every rank has made yet.</summary>
    private sealed class Call(int size)
    {
        public int Count { get; private set; }

        public string?[] Texts { get; } = new string?[size];

        public byte[]?[] Bytes { get; } = new byte[]?[size];

        public bool[] WantsAnswer { get; } = new bool[size];

        public bool IsAgreed => Texts.All(text => text == Texts[0]) && Bytes.All(bytes => bytes!.Length == Bytes[0]!.Length);

        public void Add(int rank, string text, byte[] bytes, bool wantsAnswer)
        {
            (Texts[rank], Bytes[rank], WantsAnswer[rank]) = (text, bytes, wantsAnswer);
            Count++;
        }
    }

    private sealed record Message(int Rank, long Number, bool IsOutgoing, int Peer, int Tag, long ElementCount, int Type);

    /// <summary>Messages of one sender, receiver and tag: sides that wait for their partner are all of the same direction.</summary>
    private sealed class Meeting
    {
        public Queue<Message> Waiting { get; } = new();

        public bool TryMeet(Message message, out Message partner)
        {
            partner = message;
            if (Waiting.TryPeek(out var first) && first.IsOutgoing != message.IsOutgoing)
            {
                partner = Waiting.Dequeue();
                return true;
            }

            Waiting.Enqueue(message);
            return false;
        }
    }

    private sealed record Wait(int Channel, long Number, string Text, long Since);
}
