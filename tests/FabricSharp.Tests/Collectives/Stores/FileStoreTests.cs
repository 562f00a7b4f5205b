using System.Text;
using FabricSharp.Collectives;

namespace FabricSharp.Tests.Collectives.Stores;

/// <summary>The file: what is in it, who removes it, and what torn, foreign and left-over files come to.</summary>
public sealed class FileStoreTests : IDisposable
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("fabric-store-");

    private string FilePath => Path.Combine(_folder.FullName, "store");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void File_AfterASet_EndsWithTheRecord()
    {
        using var store = new FileStore(FilePath);
        store.Set("key", [1, 2, 3]);
        byte[] record = [4, 0, 0, 0, (byte)'/', (byte)'k', (byte)'e', (byte)'y', 3, 0, 0, 0, 1, 2, 3];
        Assert.Equal(record, File.ReadAllBytes(FilePath)[^record.Length..]);
    }

    [Fact]
    public void Record_OfAnotherProgram_IsRead()
    {
        using var store = new FileStore(FilePath);
        File.AppendAllBytes(FilePath, Record("/theirs", "value"));
        Assert.Equal("value"u8.ToArray(), store.Get("theirs", Soon));
        File.AppendAllBytes(FilePath, Record("-/theirs", ""));
        Assert.False(store.Check(["theirs"]));
    }

    [Fact]
    public void Record_TornAtAnyByte_IsNeitherReadNorInTheWay()
    {
        var torn = Record("/torn", "a value that was not finished");
        for (var length = 1; length < torn.Length; length++)
        {
            using var store = new FileStore(FilePath);
            store.Set("before", [1]);
            File.AppendAllBytes(FilePath, torn[..length]);
            Assert.False(store.Check(["torn"]));
            store.Set("after", [2]);
            using var other = new FileStore(FilePath);
            Assert.False(other.Check(["torn"]));
            Assert.Equal([[1], [2]], other.MultiGet(["before", "after"], Soon));
        }
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(int.MaxValue)]
    [InlineData(0x454d414e)] // text
    public void Record_OfImpossibleLength_IsDamageAndSaysWhere(int length)
    {
        using var store = new FileStore(FilePath);
        var at = new FileInfo(FilePath).Length;
        File.AppendAllBytes(FilePath, [.. BitConverter.GetBytes(length), 0, 0, 0, 0]);
        var e = Assert.Throws<DistributedException>(() => store.Check(["key"]));
        Assert.Contains($"a length of {length} at byte {at}", e.Message, StringComparison.Ordinal);
        File.Delete(FilePath);
    }

    [Fact]
    public void Dispose_OfTheLastUser_RemovesTheFile()
    {
        var first = new FileStore(FilePath);
        var second = new FileStore(FilePath);
        first.Dispose();
        Assert.True(File.Exists(FilePath));
        second.Dispose();
        Assert.False(File.Exists(FilePath));
    }

    [Fact]
    public void Dispose_BeforeTheOthersHaveCome_KeepsTheFile()
    {
        using (var first = new FileStore(FilePath, worldSize: 2))
            first.Set("key", [1]);
        Assert.True(File.Exists(FilePath));
        using (var second = new FileStore(FilePath, worldSize: 2))
            Assert.Equal([1], second.Get("key", Soon));
        Assert.False(File.Exists(FilePath));
    }

    [Fact]
    public void Users_ThatWereKilled_AreNotCounted()
    {
        using var store = new FileStore(FilePath);
        File.AppendAllBytes(FilePath, [.. DeadUser(), .. Record("refcount/", "2")]);
        store.Set("key", [1]);
        store.Dispose();
        Assert.False(File.Exists(FilePath));
    }

    [Fact]
    public void File_WhoseUsersWereAllKilled_IsBegunAnew()
    {
        File.WriteAllBytes(FilePath, [.. DeadUser(), .. Record("refcount/", "1"), .. Record("/old", "value")]);
        using var store = new FileStore(FilePath);
        Assert.False(store.Check(["old"]));
    }

    [Fact]
    public void File_OfAnotherProgramsUsers_IsKept()
    {
        File.WriteAllBytes(FilePath, [.. Record("refcount/", "1"), .. Record("/old", "value")]);
        using (var store = new FileStore(FilePath))
            Assert.True(store.Check(["old"]));
        Assert.True(File.Exists(FilePath));
    }

    [Fact]
    public void File_MarkedAsRemovedByAKilledUser_IsMadeAnew()
    {
        File.WriteAllBytes(FilePath, [.. Record("/old", "value"), .. Record("removed/", "")]);
        using var store = new FileStore(FilePath);
        Assert.False(store.Check(["old"]));
        store.Set("new", [1]);
        Assert.Equal([1], store.Get("new", Soon));
    }

    [Fact]
    public void File_RemovedWhileInUse_SaysSo()
    {
        using var store = new FileStore(FilePath);
        File.Delete(FilePath);
        Assert.Contains("was removed or replaced", Assert.Throws<DistributedException>(() => store.Check(["key"])).Message, StringComparison.Ordinal);
        Assert.Contains("was removed or replaced", Assert.Throws<DistributedException>(() => store.Set("key", [])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void KeysAndValues_BeyondTheLimits_AreRefusedAndNothingIsWritten()
    {
        using var store = new FileStore(FilePath);
        store.Set(new string('k', 8191), new byte[8 << 20]);
        var before = new FileInfo(FilePath).Length;
        Assert.Throws<ArgumentException>(() => store.Set(new string('k', 8192), []));
        Assert.Throws<ArgumentException>(() => store.Set("key", new byte[(8 << 20) + 1]));
        Assert.Throws<ArgumentException>(() => store.Append(new string('k', 8191), [1]));
        Assert.Throws<ArgumentException>(() => store.MultiSet(["a", "b"], [[1], new byte[(8 << 20) + 1]]));
        Assert.Equal(before, new FileInfo(FilePath).Length);
        Assert.False(store.Check(["a"]));
    }

    [Fact]
    public void Constructor_ImpossibleArguments_AreRefused()
    {
        Assert.Throws<ArgumentException>(() => new FileStore(" "));
        Assert.Throws<ArgumentOutOfRangeException>(() => new FileStore(FilePath, worldSize: 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => new FileStore(FilePath, timeout: TimeSpan.FromSeconds(-1)));
        Assert.Contains("cannot be opened", Assert.Throws<DistributedException>(() => new FileStore(Path.Combine(_folder.FullName, "no", "such"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Get_NeverSet_NamesTheFile()
    {
        using var store = new FileStore(FilePath);
        Assert.Contains($"FileStore({FilePath})", Assert.Throws<DistributedTimeoutException>(() => store.Get("missing", TimeSpan.Zero)).Message, StringComparison.Ordinal);
    }

    private static byte[] DeadUser() => Record($"user/{Environment.MachineName}/2000000000/1/{Guid.NewGuid():N}", "");

    private static byte[] Record(string key, string value) => [.. Field(key), .. Field(value)];

    private static byte[] Field(string text) => [.. BitConverter.GetBytes(text.Length), .. Encoding.ASCII.GetBytes(text)];
}
