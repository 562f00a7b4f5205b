using System.Net;
using System.Net.Sockets;
using FabricSharp.Collectives;

namespace FabricSharp.Tests.Collectives.Stores;

public class TCPStoreTests
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(150);

    [Fact]
    public void Set_LongestKeyAndValue_Works()
    {
        using var server = Serve();
        var key = new string('k', 8191);
        server.Set(key, new byte[8 << 20]);
        Assert.Equal(8 << 20, server.Get(key, Soon).Length);
    }

    [Fact]
    public void Set_TooLong_IsRefusedAndTheStoreUsable()
    {
        using var server = Serve();
        var e = Assert.Throws<ArgumentException>(() => server.Set(new string('k', 8192), []));
        Assert.Contains("8192 bytes of UTF-8", e.Message);
        Assert.Contains("8193", e.Message);
        Assert.Contains("8388609", Assert.Throws<ArgumentException>(() => server.Set("key", new byte[(8 << 20) + 1])).Message);
        Assert.Throws<ArgumentException>(() => server.Check([.. Enumerable.Repeat("k", 131_073)]));
        Assert.Throws<ArgumentException>(() => server.Set(new string('é', 5000), []));
        server.Set("key", [1]);
        Assert.Equal([1], server.Get("key", Soon));
    }

    [Fact]
    public void Set_HalfASurrogatePair_IsRefused()
    {
        using var server = Serve();
        Assert.ThrowsAny<ArgumentException>(() => server.Set("\ud83d", []));
        server.Set("key", []);
    }

    [Fact]
    public void Wait_ServerGone_FailsAtOnce()
    {
        var server = Serve();
        using var client = new TCPStore("127.0.0.1", server.Port);
        var waiter = LimitedThread.Start(() => client.Get("never", TimeSpan.FromMinutes(5)));
        waiter.LetItWait();
        server.Dispose();
        var e = Assert.IsType<DistributedException>(waiter.End());
        Assert.Contains($"127.0.0.1:{server.Port}", e.Message);
    }

    [Fact]
    public void Use_ServerGone_FailsAndStaysFailed()
    {
        var server = Serve();
        using var client = new TCPStore("127.0.0.1", server.Port);
        server.Dispose();
        var first = Assert.Throws<DistributedException>(() => client.Add("key", 1));
        Assert.Contains("was lost during ADD to '/key'", first.Message);
        Assert.Contains("takes no further calls", first.Message);
        Assert.Equal(first.Message, Assert.Throws<DistributedException>(() => client.Check(["key"])).Message);
    }

    [Fact]
    public void Wait_ClientDisposedByAnotherThread_Ends()
    {
        using var server = Serve();
        var client = new TCPStore("127.0.0.1", server.Port);
        var waiter = LimitedThread.Start(() => client.Get("never", TimeSpan.FromMinutes(5)));
        waiter.LetItWait();
        client.Dispose();
        Assert.IsType<ObjectDisposedException>(waiter.End());
    }

    [Fact]
    public void Wait_InOneThread_LeavesTheClientUsableForOthers()
    {
        using var server = Serve();
        using var client = new TCPStore("127.0.0.1", server.Port);
        var waiters = Enumerable.Range(0, 5).Select(i => LimitedThread.Start(() => client.Get($"later {i}", Soon))).ToList();
        waiters[^1].LetItWait();
        for (var i = 4; i >= 0; i--)
            client.Set($"later {i}", []); // the same client that waits
        waiters.ForEach(waiter => waiter.Join());
    }

    [Fact]
    public void Connect_Nobody_TimesOutWithTheText()
    {
        var port = FreePort();
        var e = Assert.Throws<DistributedTimeoutException>(() => new TCPStore("127.0.0.1", port, timeout: Short));
        Assert.StartsWith($"The client socket has timed out after 150ms while trying to connect to (127.0.0.1, {port}).", e.Message);
    }

    [Fact]
    public void Connect_ServerThatStartsLater_IsFound()
    {
        var port = FreePort();
        TCPStore? client = null;
        var connecting = LimitedThread.Start(() => client = new TCPStore("127.0.0.1", port, timeout: Soon));
        connecting.LetItWait();
        using var server = new TCPStore("127.0.0.1", port, isServer: true);
        connecting.Join();
        client!.Set("key", []);
        client.Dispose();
    }

    [Fact]
    public void Connect_AnotherService_SaysSo()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var service = LimitedThread.Start(() =>
        {
            using var socket = listener.AcceptSocket();
            socket.Send("SSH-2.0"u8);
            socket.Receive(new byte[64]);
        });
        var port = ((IPEndPoint)listener.LocalEndpoint).Port;
        var e = Assert.Throws<DistributedException>(() => new TCPStore("127.0.0.1", port, timeout: Soon));
        Assert.Contains("is not a TCPStore", e.Message);
        service.Join();
    }

    [Fact]
    public void Connect_ServiceThatKeepsSilent_TimesOut()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var port = ((IPEndPoint)listener.LocalEndpoint).Port;
        Assert.Throws<DistributedTimeoutException>(() => new TCPStore("127.0.0.1", port, timeout: Short));
    }

    [Fact]
    public void Serve_WorkersThatNeverCome_AreCounted()
    {
        var e = Assert.Throws<DistributedTimeoutException>(
            () => new TCPStore("127.0.0.1", 0, isServer: true, worldSize: 3, timeout: Short, waitForWorkers: true));
        Assert.StartsWith("Timed out after 1 seconds waiting for clients. 1/3 clients joined.", e.Message);
    }

    [Fact]
    public void Serve_WorkersThatCome_AreWaitedFor()
    {
        var port = FreePort();
        var server = LimitedThread.Start(() => new TCPStore("127.0.0.1", port, isServer: true, worldSize: 3, timeout: Soon, waitForWorkers: true).Dispose());
        using var first = new TCPStore("127.0.0.1", port);
        Assert.True(server.IsAlive);
        var second = LimitedThread.Start(() => new TCPStore("127.0.0.1", port).Dispose());
        server.Join();
        second.End(); // may find the server gone already
    }

    [Fact]
    public void Serve_PortInUse_SaysSo()
    {
        using var server = Serve();
        var e = Assert.Throws<DistributedException>(() => new TCPStore("127.0.0.1", server.Port, isServer: true));
        Assert.StartsWith($"The server socket has failed to listen on any local network address. port: {server.Port}", e.Message);
        Assert.Contains("EADDRINUSE", e.Message);
    }

    [Fact]
    public void Serve_PortZero_FindsDifferentFreePorts()
    {
        using var a = Serve();
        using var b = Serve();
        Assert.True(a.Port > 0 && b.Port > 0 && a.Port != b.Port);
        Assert.Equal($"TCPStore(127.0.0.1:{a.Port})", a.ToString());
    }

    [Fact]
    public void Serve_OverIPv6_IsReached()
    {
        Assert.SkipUnless(Socket.OSSupportsIPv6, "No IPv6 here.");
        using var server = Serve();
        try
        {
            using var client = new TCPStore("::1", server.Port, timeout: Soon);
            client.Set("key", [6]);
            Assert.Equal([6], client.Get("key", Soon));
        }
        catch (DistributedTimeoutException e) when (e.InnerException is SocketException { SocketErrorCode: SocketError.AddressNotAvailable })
        {
            Assert.Skip("No IPv6 loopback here.");
        }
    }

    [Fact]
    public void Serve_SixtyFourClients_AllCounted()
    {
        using var server = Serve();
        RankThreads.Run(64, rank =>
        {
            using var client = new TCPStore("127.0.0.1", server.Port, timeout: Soon);
            client.Add("counter", rank);
            client.Wait(["go"], rank == 63 ? TimeSpan.FromMilliseconds(1) : Soon, set: rank == 63);
        });
        Assert.Equal(63 * 64 / 2, server.Add("counter", 0));
    }

    [Theory]
    [InlineData("", 1)]
    [InlineData(" ", 1)]
    [InlineData("host", 0)]
    [InlineData("host", -1)]
    [InlineData("host", 65536)]
    public void Constructor_ImpossibleAddress_IsRefused(string host, int port) => Assert.ThrowsAny<ArgumentException>(() => new TCPStore(host, port));

    [Fact]
    public void Constructor_ImpossibleWorld_IsRefused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new TCPStore("host", 0, isServer: true, worldSize: 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => new TCPStore("host", 0, isServer: true, timeout: TimeSpan.FromSeconds(-1)));
    }

    [Fact]
    public void Dispose_ManyTimes_GivesThePortBack()
    {
        var port = FreePort();
        for (var i = 0; i < 20; i++)
        {
            using var server = new TCPStore("127.0.0.1", port, isServer: true);
            using var client = new TCPStore("127.0.0.1", port);
            client.Add("key", 1);
        }
    }

    private static TCPStore Serve() => new("127.0.0.1", 0, isServer: true);

    private static int FreePort()
    {
        using var probe = new TcpListener(IPAddress.IPv6Any, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }
}

file static class StoreWaits
{
    /// <summary>Waits for keys, or is the one that sets them.</summary>
    public static void Wait(this Store store, string[] keys, TimeSpan limit, bool set)
    {
        if (!set)
        {
            store.Wait(keys, limit);
            return;
        }

        store.MultiSet(keys, [.. keys.Select(_ => Array.Empty<byte>())]);
        store.Check(keys); // answered: it is done before the connection closes
    }
}
