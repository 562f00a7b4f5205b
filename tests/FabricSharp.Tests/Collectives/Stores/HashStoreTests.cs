using FabricSharp.Collectives;

namespace FabricSharp.Tests.Collectives.Stores;

public class HashStoreTests
{
    [Fact]
    public void Wait_StoreDisposedMeanwhile_Ends()
    {
        var store = new HashStore();
        var waiter = LimitedThread.Start(() => store.Get("never", TimeSpan.FromMinutes(5)));
        waiter.LetItWait();
        store.Dispose();
        Assert.IsType<ObjectDisposedException>(waiter.End());
    }

    [Fact]
    public void Set_ArrayChangedLater_KeepsWhatWasGiven()
    {
        using var store = new HashStore();
        byte[] value = [1];
        store.Set("a", value);
        store.MultiSet(["b"], [value]);
        value[0] = 9;
        Assert.Equal([1], store.Get("a"));
        Assert.Equal([1], store.Get("b"));
    }

    [Fact]
    public void Add_BeyondTheLargestNumber_IsAnErrorThatNamesTheKey()
    {
        using var store = new HashStore();
        store.Add("counter", long.MaxValue);
        Assert.Contains("'counter'", Assert.Throws<DistributedException>(() => store.Add("counter", 1)).Message);
        Assert.Equal(long.MaxValue, store.Add("counter", 0));
    }
}

public class PrefixStoreTests
{
    [Fact]
    public void Keys_OfNestedViews_BeginWithTheInnermostPrefix()
    {
        using var store = new HashStore();
        var nested = new PrefixStore("inner", new PrefixStore("outer", store));
        nested.Set("key", [1]);
        Assert.Equal([1], store.Get("outer/inner/key"));
        Assert.False(new PrefixStore("other", store).Check(["key"]));
        Assert.Equal("PrefixStore(inner/, PrefixStore(outer/, " + store + "))", nested.ToString());
    }

    [Fact]
    public void Timeout_Always_StartsAsTheInnerStores()
    {
        using var store = new HashStore { Timeout = TimeSpan.FromSeconds(7) };
        Assert.Equal(TimeSpan.FromSeconds(7), new PrefixStore("p", store).Timeout);
    }

    [Fact]
    public void Dispose_OfTheView_LeavesTheStoreOpen()
    {
        using var store = new HashStore();
        new PrefixStore("p", store).Dispose();
        store.Set("key", []);
    }

    [Fact]
    public void TimeoutText_Always_ShowsTheFullKey()
    {
        using var store = new HashStore();
        var e = Assert.Throws<DistributedTimeoutException>(() => new PrefixStore("group 3", store).Get("key", TimeSpan.Zero));
        Assert.Contains("keys: group 3/key", e.Message);
    }
}
