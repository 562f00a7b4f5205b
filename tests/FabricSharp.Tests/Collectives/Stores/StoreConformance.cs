using System.Text;
using FabricSharp.Collectives;

namespace FabricSharp.Tests.Collectives.Stores;

/// <summary>What every kind of store promises. Both views are of the same keys, from two users of the store.</summary>
public abstract class StoreConformance : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan Short = TimeSpan.FromMilliseconds(60);

    protected abstract Store First { get; }

    protected abstract Store Second { get; }

    /// <summary>How many keys the store has before the test sets one.</summary>
    protected abstract int OwnKeys { get; }

    public virtual void Dispose()
    {
        Second.Dispose();
        First.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public void Set_ThenGet_GivesTheValueToBoth()
    {
        First.Set("key", Bytes("value"));
        Assert.Equal("value", Text(First.Get("key", Soon)));
        Assert.Equal("value", Text(Second.Get("key", Soon)));
    }

    [Fact]
    public void Set_Again_Replaces()
    {
        First.Set("key", Bytes("one"));
        First.Set("key", Bytes("another one"));
        Assert.Equal("another one", Text(First.Get("key", Soon)));
        Assert.Equal(OwnKeys + 1, First.Count);
    }

    [Theory]
    [InlineData("with/slashes//inside/")]
    [InlineData("with spaces\tand\nlines")]
    [InlineData("größer 鍵 🔑")]
    [InlineData("")]
    [InlineData("init/")]
    public void Set_AnyKey_IsThatKeyAndNoOther(string key)
    {
        First.Set(key, Bytes("value"));
        Assert.Equal("value", Text(Second.Get(key, Soon)));
        Assert.False(Second.Check([key + "x"]));
    }

    [Fact]
    public void Set_AnyBytes_ComeBackAsTheyWere()
    {
        byte[] all = [.. Enumerable.Range(0, 256).Select(i => (byte)i)];
        var large = new byte[1 << 20];
        new Random(1).NextBytes(large);
        First.Set("all", all);
        First.Set("empty", []);
        First.Set("large", large);
        Assert.Equal(all, Second.Get("all", Soon));
        Assert.Empty(Second.Get("empty", Soon));
        Assert.True(large.AsSpan().SequenceEqual(Second.Get("large", Soon)));
    }

    [Fact]
    public void Get_ResultChangedByTheCaller_LeavesTheStoreAlone()
    {
        First.Set("key", Bytes("value"));
        First.Get("key", Soon)[0] = 0;
        Assert.Equal("value", Text(First.Get("key", Soon)));
    }

    [Fact]
    public void Get_OwnKeyWithoutTime_IsFoundEachTime()
    {
        for (var i = 0; i < 200; i++)
        {
            First.Set($"key {i}", Bytes("value"));
            Assert.Equal("value", Text(First.Get($"key {i}", TimeSpan.Zero)));
        }
    }

    [Fact]
    public void Get_KeySetLater_Waits()
    {
        var got = "";
        var reader = LimitedThread.Start(() => got = Text(Second.Get("later", Soon)));
        reader.LetItWait();
        First.Set("later", Bytes("here"));
        reader.Join();
        Assert.Equal("here", got);
    }

    [Fact]
    public void Get_NeverSet_TimesOutWithTheText()
    {
        var e = Assert.Throws<DistributedTimeoutException>(() => First.Get("missing", Short));
        Assert.StartsWith("wait timeout after 60ms, keys: ", e.Message);
        Assert.Contains("missing", e.Message);
    }

    [Fact]
    public void Get_WithoutLimit_TakesTheStoresTimeout()
    {
        First.Timeout = Short;
        Assert.StartsWith("wait timeout after 60ms", Assert.Throws<DistributedTimeoutException>(() => First.Get("missing")).Message);
        Assert.StartsWith("wait timeout after 60ms", Assert.Throws<DistributedTimeoutException>(() => First.Wait(["missing"])).Message);
        Assert.StartsWith("wait timeout after 60ms", Assert.Throws<DistributedTimeoutException>(() => First.MultiGet(["missing"])).Message);
    }

    [Fact]
    public void Get_AfterATimeout_StillWorks()
    {
        Assert.Throws<DistributedTimeoutException>(() => First.Get("key", TimeSpan.Zero));
        Second.Set("key", Bytes("value"));
        Assert.Equal("value", Text(First.Get("key", Soon)));
    }

    [Fact]
    public void Wait_SomeMissing_ListsTheMissingOnes()
    {
        First.Set("there", Bytes("x"));
        Settle();
        var e = Assert.Throws<DistributedTimeoutException>(() => First.Wait(["there", "absent one", "absent two"], Short));
        var missing = e.Message[e.Message.IndexOf("Missing:", StringComparison.Ordinal)..];
        Assert.Contains("absent one", missing);
        Assert.Contains("absent two", missing);
        Assert.DoesNotContain("there,", missing);
    }

    [Fact]
    public void Wait_SeveralKeysSetOneByOne_EndsWithTheLast()
    {
        var waiter = LimitedThread.Start(() => Second.Wait(["a", "b", "a", "c"], Soon));
        foreach (var key in new[] { "c", "a" })
            First.Set(key, Bytes("x"));
        waiter.LetItWait();
        Assert.True(waiter.IsAlive);
        First.Add("b", 0);
        waiter.Join();
    }

    [Fact]
    public void Wait_KeyDeletedBeforeTheOtherCame_GoesOn()
    {
        First.Set("a", Bytes("x"));
        Settle();
        var waiter = LimitedThread.Start(() => Second.Wait(["a", "b"], Soon));
        waiter.LetItWait();
        First.Delete("a");
        First.Set("b", Bytes("x"));
        Settle();
        Assert.True(waiter.IsAlive);
        First.Set("a", Bytes("x"));
        waiter.Join();
    }

    [Fact]
    public void Wait_NothingToWaitFor_ReturnsAtOnce()
    {
        First.Wait([], TimeSpan.Zero);
        First.Set("key", []);
        Settle();
        First.Wait(["key"], TimeSpan.Zero);
    }

    [Fact]
    public void Wait_ManyThreads_AllWake()
    {
        var waiters = Enumerable.Range(0, 8).Select(i => LimitedThread.Start(() => (i % 2 == 0 ? First : Second).Get("signal", Soon))).ToList();
        waiters.ForEach(waiter => waiter.LetItWait());
        First.Set("signal", Bytes("go"));
        waiters.ForEach(waiter => waiter.Join());
    }

    [Fact]
    public void Wait_ImpossibleArguments_AreRefused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => First.Wait(["key"], TimeSpan.FromSeconds(-1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => First.Wait(["key"], Timeout.InfiniteTimeSpan));
        Assert.Throws<ArgumentNullException>(() => First.Wait(null!, Soon));
        Assert.Throws<ArgumentException>(() => First.Wait(["a", null!], Soon));
        Assert.Throws<ArgumentNullException>(() => First.Set(null!, []));
        Assert.Throws<ArgumentNullException>(() => First.Add(null!, 1));
    }

    [Fact]
    public void Add_NegativeAndZero_CountsAndReads()
    {
        Assert.Equal(5, First.Add("counter", 5));
        Assert.Equal(-2, Second.Add("counter", -7));
        Assert.Equal(-2, First.Add("counter", 0));
        Assert.Equal("-2", Text(First.Get("counter", Soon)));
        Assert.Equal(0, First.Add("new", 0));
        Assert.True(First.Check(["new"]));
        Assert.Equal(long.MaxValue, First.Add("large", long.MaxValue));
    }

    [Fact]
    public void Add_ToANumberThatWasSet_AddsToIt()
    {
        First.Set("counter", Bytes("41"));
        Assert.Equal(42, First.Add("counter", 1));
    }

    [Fact]
    public void Add_FromManyThreads_LosesNone()
    {
        var seen = new System.Collections.Concurrent.ConcurrentBag<long>();
        RankThreads.Run(8, rank =>
        {
            for (var i = 0; i < 100; i++)
                seen.Add((rank % 2 == 0 ? First : Second).Add("counter", 1));
        });
        Assert.Equal(Enumerable.Range(1, 800).Select(i => (long)i), seen.Order());
    }

    [Fact]
    public void Add_ToText_IsAnError()
    {
        First.Set("text", Bytes("no number"));
        Assert.Throws<DistributedException>(() => First.Add("text", 1));
    }

    [Fact]
    public void Check_SomeMissing_IsFalse()
    {
        First.Set("a", []);
        Assert.True(First.Check(["a"]));
        Assert.False(First.Check(["a", "b"]));
        Assert.True(First.Check([]));
    }

    [Fact]
    public void CompareSet_FourCases_FollowTheTable()
    {
        Assert.Equal("expected", Text(First.CompareSet("key", Bytes("expected"), Bytes("desired"))));
        Assert.False(First.Check(["key"]));
        Assert.Equal("first", Text(First.CompareSet("key", [], Bytes("first"))));
        Assert.Equal("second", Text(First.CompareSet("key", Bytes("first"), Bytes("second"))));
        Assert.Equal("second", Text(Second.CompareSet("key", Bytes("first"), Bytes("third"))));
        Assert.Equal("second", Text(Second.Get("key", Soon)));
    }

    [Fact]
    public void CompareSet_ByManyThreads_OneWins()
    {
        var winners = 0;
        RankThreads.Run(8, rank =>
        {
            if (Text((rank % 2 == 0 ? First : Second).CompareSet("leader", [], Bytes(rank.ToString()))) == rank.ToString())
                Interlocked.Increment(ref winners);
        });
        Assert.Equal(1, winners);
    }

    [Fact]
    public void CompareSet_OnAMissingKey_WakesThoseWhoWait()
    {
        var waiter = LimitedThread.Start(() => Second.Get("key", Soon));
        waiter.LetItWait();
        First.CompareSet("key", [], Bytes("x"));
        waiter.Join();
    }

    [Fact]
    public void Delete_Key_RemovesItOnce()
    {
        First.Set("key", Bytes("x"));
        Settle();
        Assert.True(Second.Delete("key"));
        Assert.False(Second.Delete("key"));
        Assert.False(First.Check(["key"]));
        Assert.Equal(OwnKeys, First.Count);
    }

    [Fact]
    public void Append_SeveralTimes_Concatenates()
    {
        First.Append("key", Bytes("one"));
        Settle();
        Second.Append("key", []);
        Second.Append("key", Bytes(", two"));
        Settle();
        Assert.Equal("one, two", Text(First.Get("key", Soon)));
    }

    [Fact]
    public void Append_FromManyThreads_LosesNone()
    {
        RankThreads.Run(4, rank =>
        {
            for (var i = 0; i < 50; i++)
                (rank % 2 == 0 ? First : Second).Append("log", [(byte)rank]);
        });
        Settle();
        Assert.All(First.Get("log", Soon).GroupBy(b => b), group => Assert.Equal(50, group.Count()));
        Assert.Equal(200, First.Get("log", Soon).Length);
    }

    [Fact]
    public void MultiSetAndGet_SeveralKeys_KeepTheOrder()
    {
        string[] keys = ["b", "a", "c"];
        First.MultiSet(keys, [Bytes("B"), Bytes("A"), []]);
        Assert.Equal(["B", "A", "", "B"], Second.MultiGet(["b", "a", "c", "b"], Soon).Select(Text));
        Assert.Empty(Second.MultiGet([], Soon));
    }

    [Fact]
    public void MultiGet_OneMissing_WaitsForIt()
    {
        First.Set("a", Bytes("A"));
        var got = Array.Empty<string>();
        var reader = LimitedThread.Start(() => got = [.. Second.MultiGet(["a", "b"], Soon).Select(Text)]);
        reader.LetItWait();
        First.Set("b", Bytes("B"));
        reader.Join();
        Assert.Equal(["A", "B"], got);
    }

    [Fact]
    public void MultiSet_UnequalLists_AreRefused()
    {
        Assert.Throws<ArgumentException>(() => First.MultiSet(["a", "b"], [Bytes("A")]));
        Assert.Throws<ArgumentException>(() => First.MultiSet(["a"], [null!]));
        Assert.False(First.Check(["a"]));
    }

    [Fact]
    public void Count_Always_IsTheNumberOfKeys()
    {
        Assert.Equal(OwnKeys, First.Count);
        First.MultiSet(["a", "b"], [[], []]);
        First.Add("c", 1); // is answered, so everything before it has been done
        Assert.Equal(OwnKeys + 3, Second.Count);
    }

    [Fact]
    public void Use_AfterDispose_IsRefusedAndDisposingTwiceHarmless()
    {
        Second.Dispose();
        Second.Dispose();
        if (Second is PrefixStore)
            return; // its inner store stays open
        Assert.Throws<ObjectDisposedException>(() => Second.Set("key", []));
        Assert.Throws<ObjectDisposedException>(() => Second.Get("key", TimeSpan.Zero));
    }

    /// <summary>Returns when what was set and appended is done: over a network nothing answers to those.</summary>
    private void Settle()
    {
        First.Check([]);
        Second.Check([]);
    }

    protected static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    protected static string Text(byte[] bytes) => Encoding.UTF8.GetString(bytes);
}

public sealed class HashStoreConformance : StoreConformance
{
    private readonly HashStore _store = new();

    protected override Store First => _store;

    protected override Store Second => _store;

    protected override int OwnKeys => 0;
}

public sealed class PrefixedHashStoreConformance : StoreConformance
{
    private readonly HashStore _store = new();

    public PrefixedHashStoreConformance()
    {
        First = new PrefixStore("a/b", _store);
        Second = new PrefixStore("b", new PrefixStore("a", _store));
    }

    protected override Store First { get; }

    protected override Store Second { get; }

    protected override int OwnKeys => 0;

    public override void Dispose()
    {
        base.Dispose();
        _store.Dispose();
    }
}

public sealed class TCPStoreConformance : StoreConformance
{
    public TCPStoreConformance()
    {
        var server = new TCPStore("127.0.0.1", 0, isServer: true);
        First = server;
        Second = new TCPStore("127.0.0.1", server.Port);
    }

    protected override Store First { get; }

    protected override Store Second { get; }

    /// <summary>The counter of those who joined.</summary>
    protected override int OwnKeys => 1;
}

public sealed class PrefixedTCPStoreConformance : StoreConformance
{
    private readonly TCPStore _server = new("127.0.0.1", 0, isServer: true);
    private readonly TCPStore _client;

    public PrefixedTCPStoreConformance()
    {
        _client = new TCPStore("127.0.0.1", _server.Port);
        First = new PrefixStore("job 7", _server);
        Second = new PrefixStore("job 7", _client);
    }

    protected override Store First { get; }

    protected override Store Second { get; }

    protected override int OwnKeys => 1;

    public override void Dispose()
    {
        base.Dispose();
        _client.Dispose();
        _server.Dispose();
    }
}

public sealed class FileStoreConformance : StoreConformance
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("fabric-store-");

    public FileStoreConformance()
    {
        First = new FileStore(Path.Combine(_folder.FullName, "store"));
        Second = new FileStore(Path.Combine(_folder.FullName, "store"));
    }

    protected override Store First { get; }

    protected override Store Second { get; }

    /// <summary>The number of references, and a record for each of the two users.</summary>
    protected override int OwnKeys => 3;

    public override void Dispose()
    {
        base.Dispose();
        Assert.Empty(_folder.GetFiles());
        _folder.Delete();
    }
}
