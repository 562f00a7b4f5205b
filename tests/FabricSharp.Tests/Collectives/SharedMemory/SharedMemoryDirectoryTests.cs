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

    private void Make(string name, int hoursAgo)
    {
        var path = Path.Combine(_folder, name);
        File.WriteAllText(path, "");
        File.SetLastWriteTimeUtc(path, TimeProvider.System.GetUtcNow().UtcDateTime.AddHours(-hoursAgo));
    }
}
