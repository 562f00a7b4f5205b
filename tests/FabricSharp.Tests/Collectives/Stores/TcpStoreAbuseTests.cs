using FabricSharp.Collectives;
using FabricSharp.Collectives.Stores;
using static FabricSharp.Tests.Collectives.Stores.RawStoreClient;

namespace FabricSharp.Tests.Collectives.Stores;

/// <summary>Connections that break the protocol are closed and harm nobody else.</summary>
public sealed class TcpStoreAbuseTests : IDisposable
{
    private readonly TcpStoreServer _server = new(0, new StoreLimits { Handshake = TimeSpan.FromMilliseconds(200), StoredBytes = 20 << 20 });
    private readonly TCPStore _bystander;

    public TcpStoreAbuseTests()
    {
        _bystander = new TCPStore("127.0.0.1", _server.Port);
        _bystander.Set("key", [1, 2, 3]);
    }

    public static TheoryData<string, byte[]> FirstBytes => new()
    {
        { "a web browser", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"u8.ToArray() },
        { "TLS", Bytes("16 03 01 02 00 01 00 01 FC 03 03") },
        { "wrong magic", Bytes("00 CE F7 85 3D 0D 2A 00 00 00") },
        { "PING without VALIDATE", Bytes("0D 2A 00 00 00") },
        { "SET without VALIDATE", [1, .. Item("/key"), .. Item("evil")] },
        { "zeros", new byte[64] },
        { "ones", Enumerable.Repeat((byte)255, 64).ToArray() },
    };

    public static TheoryData<string, byte[]> Requests => new()
    {
        { "second VALIDATE", Bytes("00 CE F7 85 3C") },
        { "unknown request", [18] },
        { "unknown request 255", [255] },
        { "key of 2^62 bytes", [3, .. Number(1L << 62)] },
        { "key of -1 bytes", [3, .. Number(-1)] },
        { "key of 8193 bytes", [3, .. Number(8193)] },
        { "value of 8 MiB and one byte", [1, .. Item("/k"), .. Number((8 << 20) + 1)] },
        { "value of -1 bytes", [1, .. Item("/k"), .. Number(-1)] },
        { "list of 2^40 keys", [5, .. Number(1L << 40)] },
        { "list of -1 keys", [6, .. Number(-1)] },
        { "list of 131073 pairs", [11, .. Number(131_073)] },
        { "ADD to text", [1, .. Item("/t"), .. Item("text"), 4, .. Item("/t"), .. Number(1)] },
        { "ADD that overflows", [1, .. Item("/n"), .. Item("9223372036854775807"), 4, .. Item("/n"), .. Number(1)] },
        { "GET during WAIT", [6, .. Number(1), .. Item("/never"), 3, .. Item("/key")] },
    };

    public void Dispose()
    {
        _bystander.Dispose();
        _server.Dispose();
    }

    [Theory]
    [MemberData(nameof(FirstBytes))]
    public void FirstBytes_NotTheProtocol_EndTheConnection(string what, byte[] bytes)
    {
        using var scanner = new RawStoreClient(_server.Port, shakeHands: false);
        scanner.Send(bytes);
        scanner.ExpectEnd();
        RequireUndisturbed(what);
    }

    [Theory]
    [MemberData(nameof(Requests))]
    public void Request_AgainstTheRules_EndsTheConnection(string what, byte[] bytes)
    {
        using var client = new RawStoreClient(_server.Port);
        client.Send(bytes);
        client.ExpectEnd();
        RequireUndisturbed(what);
    }

    [Fact]
    public void Connection_ThatKeepsSilent_IsClosedAfterTheLimit()
    {
        using var silent = new RawStoreClient(_server.Port, shakeHands: false);
        silent.ExpectEnd();
        RequireUndisturbed("silence");
    }

    [Fact]
    public void Frame_HalfThenSilence_HoldsUpNobody()
    {
        using var half = new RawStoreClient(_server.Port);
        half.Send([1], Item("/key"), Number(1000), [1, 2, 3]);
        RequireUndisturbed("half a frame");
        half.Dispose();
        RequireUndisturbed("half a frame and the end");
        Assert.Equal([1, 2, 3], _bystander.Get("key"));
    }

    [Fact]
    public void Replies_NotRead_HoldUpNobody()
    {
        using var deaf = new RawStoreClient(_server.Port);
        _bystander.Set("large", new byte[4 << 20]);
        for (var i = 0; i < 50; i++)
            deaf.Send([3], Item("/large"));
        RequireUndisturbed("a client that does not read");
    }

    [Fact]
    public void Store_Full_RefusesAndGoesOn()
    {
        using var filler = new RawStoreClient(_server.Port);
        var megabytes = new byte[7 << 20];
        for (var i = 0; i < 3; i++)
            filler.Send([1], Item($"/fill {i}"), Number(megabytes.Length), megabytes);
        filler.ExpectEnd();
        RequireUndisturbed("a full store");
        Assert.True(_bystander.Delete("fill 0"));
        _bystander.Set("after", new byte[1 << 20]);
        Assert.Equal(1 << 20, _bystander.Get("after").Length);
    }

    [Fact]
    public void Clients_ThatVanishInEachState_AreForgotten()
    {
        var before = _server.SessionCount;
        byte[][] states = [[], [6, .. Number(1), .. Item("/never")], [1, .. Item("/key"), .. Number(1000), 1], [11, .. Number(2), .. Item("/a"), .. Item("x")], [5, .. Number(3)]];
        var clients = states.Select(_ => new RawStoreClient(_server.Port)).ToList();
        for (var i = 0; i < clients.Count; i++)
            clients[i].Send(states[i]);
        Assert.Equal(before + clients.Count, _server.SessionCount);
        clients.ForEach(client => client.Dispose());
        Assert.True(SpinWait.SpinUntil(() => _server.SessionCount == before, TimeSpan.FromSeconds(20)), $"{_server.SessionCount - before} sessions are left.");
        Assert.False(_bystander.Check(["a"])); // of half a request nothing is done
        RequireUndisturbed("clients that vanish");
    }

    [Fact]
    public void List_BeyondTheBytesOfARequest_EndsTheConnectionAndStoresNothing()
    {
        using var server = new TcpStoreServer(0, new StoreLimits { RequestBytes = 100 });
        using var client = new RawStoreClient(server.Port);
        client.Send([11, .. Number(2), .. Item("/a"), .. Item(new string('x', 60)), .. Item("/b"), .. Item(new string('x', 60))]);
        client.ExpectEnd();
        using var other = new TCPStore("127.0.0.1", server.Port);
        Assert.False(other.Check(["a"]));
    }

    [Fact]
    public void Key_OfTheLongestLength_IsTaken()
    {
        using var client = new RawStoreClient(_server.Port);
        client.Send([1], Item(new string('k', 8192)), Item("v"), [3], Item(new string('k', 8192)));
        client.Expect(Item("v"));
    }

    private void RequireUndisturbed(string by)
    {
        Assert.True(_bystander.Check(["key"]), $"disturbed by {by}");
        Assert.Equal([1, 2, 3], _bystander.Get("key", TimeSpan.FromSeconds(20)));
    }
}
