using System.Net;
using System.Net.Sockets;
using FabricSharp.Collectives;
using static FabricSharp.Tests.Collectives.Stores.RawStoreClient;

namespace FabricSharp.Tests.Collectives.Stores;

/// <summary>What our client sends, byte for byte, and how it takes the answers of a server that is played here.</summary>
public sealed class TcpStoreClientWireTests : IDisposable
{
    private static readonly byte[] Pid = BitConverter.GetBytes((uint)Environment.ProcessId);
    private static readonly (byte[] Expected, byte[] Reply) Handshake = ([.. Bytes("00 CE F7 85 3C 0D"), .. Pid], Pid);
    private static readonly (byte[] Expected, byte[] Reply) Join = ([4, .. Item("init/"), .. Number(1)], Number(1));

    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);

    public TcpStoreClientWireTests() => _listener.Start();

    private int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public void Dispose() => _listener.Dispose();

    [Fact]
    public void Requests_WithoutWait_AreTheBytesOfTheTable()
    {
        var server = Play(
            Handshake,
            Join,
            ([1, .. Item("/k"), .. Item("v")], []),
            ([4, .. Item("/c"), .. Number(-3)], Number(-3)),
            ([5, .. Number(2), .. Item("/k"), .. Item("/c")], [0]),
            ([2, .. Item("/k"), .. Item("v"), .. Item("w")], Item("w")),
            ([8, .. Item("/k")], Number(1)),
            ([7], Number(7)),
            ([9, .. Item("/k"), .. Item("more")], []),
            ([11, .. Number(1), .. Item("/a"), .. Item("A")], []),
            ([5, .. Number(1), .. Item("/none")], [1]));
        using var client = new TCPStore("127.0.0.1", Port);
        client.Set("k", "v"u8);
        Assert.Equal(-3, client.Add("c", -3));
        Assert.True(client.Check(["k", "c"]));
        Assert.Equal("w"u8.ToArray(), client.CompareSet("k", "v"u8, "w"u8));
        Assert.True(client.Delete("k"));
        Assert.Equal(7, client.Count);
        client.Append("k", "more"u8);
        client.MultiSet(["a"], ["A"u8.ToArray()]);
        Assert.False(client.Check(["none"]));
        server.Join();
    }

    [Fact]
    public void Get_OfAKey_WaitsOnASecondConnectionThenGets()
    {
        var server = Play(
            [Handshake, Join, ([3, .. Item("/k")], Item("value"))],
            [Handshake, ([6, .. Number(1), .. Item("/k")], [0])]);
        using var client = new TCPStore("127.0.0.1", Port);
        Assert.Equal("value"u8.ToArray(), client.Get("k", TimeSpan.FromSeconds(20)));
        server.Join();
    }

    [Fact]
    public void Wait_TimedOut_CancelsAndReadsTheAnswer()
    {
        var server = Play(
            [Handshake, Join],
            [Handshake, ([6, .. Number(1), .. Item("/k")], []), ([12], [1]), ([6, .. Number(1), .. Item("/k")], [0])]);
        using var client = new TCPStore("127.0.0.1", Port);
        Assert.Throws<DistributedTimeoutException>(() => client.Wait(["k"], TimeSpan.FromMilliseconds(30)));
        client.Wait(["k"], TimeSpan.FromSeconds(20)); // on the same connection
        server.Join();
    }

    [Fact]
    public void Wait_CancellationCrossedByTheKeys_CountsAsArrived()
    {
        var server = Play([Handshake, Join], [Handshake, ([6, .. Number(1), .. Item("/k")], []), ([12], [0, 1])]);
        using var client = new TCPStore("127.0.0.1", Port);
        client.Wait(["k"], TimeSpan.FromMilliseconds(30));
        server.Join();
    }

    [Fact]
    public void Reply_OfImpossibleLength_IsAnErrorAndNoAllocation()
    {
        var server = Play(Handshake, Join, ([2, .. Item("/k"), .. Item(""), .. Item("")], Number(1L << 50)));
        using var client = new TCPStore("127.0.0.1", Port);
        Assert.Throws<DistributedException>(() => client.CompareSet("k", [], []));
        server.Join();
    }

    [Fact]
    public void Reply_CutOff_IsAnError()
    {
        var server = Play(Handshake, Join, ([2, .. Item("/k"), .. Item(""), .. Item("")], [.. Number(100), 1, 2, 3]));
        using var client = new TCPStore("127.0.0.1", Port);
        var e = Assert.Throws<DistributedException>(() => client.CompareSet("k", [], []));
        Assert.Contains("COMPARE_SET of 'k'", e.Message);
        server.Join();
    }

    private LimitedThread Play(params (byte[] Expected, byte[] Reply)[] connection) => Play([connection]);

    /// <summary>Plays the server: for each connection in order, what must come and what is answered; then it is closed.</summary>
    private LimitedThread Play(params (byte[] Expected, byte[] Reply)[][] connections) => LimitedThread.Start(() =>
    {
        var sockets = new List<Socket>();
        var threads = new List<LimitedThread>();
        foreach (var script in connections)
        {
            var socket = _listener.AcceptSocket();
            sockets.Add(socket);
            threads.Add(LimitedThread.Start(() => Follow(socket, script)));
        }

        threads.ForEach(thread => thread.Join());
        sockets.ForEach(socket => socket.Dispose());
    });

    private static void Follow(Socket socket, (byte[] Expected, byte[] Reply)[] script)
    {
        socket.ReceiveTimeout = 20_000;
        foreach (var (expected, reply) in script)
        {
            var actual = new byte[expected.Length];
            for (var filled = 0; filled < actual.Length;)
                filled += socket.Receive(actual.AsSpan(filled)) is > 0 and var count ? count : throw new InvalidOperationException("The client left.");
            Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(actual));
            socket.Send(reply);
        }
    }
}
