using System.Collections.Concurrent;
using FabricSharp.Collectives;
using FabricSharp.Collectives.SharedMemory;

namespace FabricSharp.Tests.Collectives.SharedMemory;

public sealed class SharedMemoryDirectoryTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabricsharp-leftovers-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void RemoveLeftovers_FilesOfADayAgo_TakesOursAndNothingElse()
    {
        Make("fabric-0123", hoursAgo: 30);
        Make("fabric-4567", hoursAgo: 2);
        Make("others", hoursAgo: 30);
        SharedMemoryDirectory.RemoveLeftovers(_folder, TimeProvider.System);
        Assert.Equal(["fabric-4567", "others"], Directory.GetFiles(_folder).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void RemoveLeftovers_NoSuchFolder_DoesNothing() => SharedMemoryDirectory.RemoveLeftovers(Path.Combine(_folder, "missing"), TimeProvider.System);

    [Theory]
    [InlineData("missing", "does not exist")]
    [InlineData("file", "cannot be written")]
    public void Choose_StandardFolderOfNoUse_TakesTheTemporaryOneAndSaysSo(string kind, string expected)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Only Linux has a folder that is memory.");
        var standard = kind == "missing" ? Path.Combine(_folder, "missing") : "/proc/self";
        var folders = SharedMemoryDirectory.Choose(standard);
        Assert.Equal((Path.GetTempPath(), null), (folders.Main, folders.Fallback));
        Assert.Contains($"{standard} {expected}", folders.Warning);
    }

    [Fact]
    public void Choose_StandardFolder_KeepsTheTemporaryOneForWhatDoesNotFit()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Only Linux has a folder that is memory.");
        Assert.Equal(new SharedMemoryFolders(_folder, Path.GetTempPath()), SharedMemoryDirectory.Choose(_folder));
    }

    [Fact]
    public void Group_FolderWithoutRoom_PutsItsMemoryElsewhereAndWarnsOnce()
    {
        using var store = new HashStore();
        var (full, other) = (Path.Combine(_folder, "full"), Directory.CreateDirectory(Path.Combine(_folder, "other")).FullName);
        Directory.CreateDirectory(full);
        var warnings = new ConcurrentQueue<string>();
        RankThreads.Run(2, rank =>
        {
            using var group = SharedMemoryProcessGroup.Join(store, rank, 2, GroupOfThreads.Limit, folders: new SharedMemoryFolders(full, other));
            group.Warn = text => warnings.Enqueue($"{rank}: {text}");
            group.Barrier().Wait();
            if (rank == 0)
                Directory.Delete(full); // stands for one that is full
            group.Barrier().Wait();
            using var channel = group.CreateGradientChannel("test", 16);
            using var buffer = channel.Allocate(1000);
            using var sub = group.NewGroup([1, 0])!;
            sub.Barrier().Wait();
            group.Barrier().Wait();
            Assert.Empty(Directory.GetFiles(other));
        });
        Assert.StartsWith($"0: {full} has no room for", warnings.First());
        Assert.Single(warnings, text => text.StartsWith("0: ", StringComparison.Ordinal) && text.Contains("test, buckets", StringComparison.Ordinal));
    }

    private void Make(string name, int hoursAgo)
    {
        var path = Path.Combine(_folder, name);
        File.WriteAllText(path, "");
        File.SetLastWriteTimeUtc(path, TimeProvider.System.GetUtcNow().UtcDateTime.AddHours(-hoursAgo));
    }
}
