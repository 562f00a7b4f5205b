using System.Diagnostics;
using FabricSharp.Collectives;
using FabricSharp.Collectives.SharedMemory;

namespace FabricSharp.Tests.Collectives.SharedMemory;

public sealed class SharedMemorySegmentTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-test-").FullName;

    private string File => Path.Combine(_folder, "segment");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public unsafe void Create_ThenOpen_SharesTheBytes()
    {
        using var first = SharedMemorySegment.Create(File, 10_000);
        using var second = SharedMemorySegment.Open(File, 10_000);
        first.Unlink();
        Assert.False(System.IO.File.Exists(File));
        Assert.All(new Span<byte>(second.Pointer, 10_000).ToArray(), b => Assert.Equal(0, b));
        first.Pointer[9_999] = 42;
        Assert.Equal(42, second.Pointer[9_999]);
    }

    [Fact]
    public void Create_Always_IsForTheOwnerOnly()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Files have no modes here.");
        using var segment = SharedMemorySegment.Create(File, 64);
        if (!OperatingSystem.IsWindows())
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, System.IO.File.GetUnixFileMode(File));
    }

    [Fact]
    public void Create_MoreThanThereIs_SaysHowToGetMore()
    {
        var e = Assert.Throws<DistributedException>(() => SharedMemorySegment.Create(File, 1L << 50));
        Assert.Contains("Could not reserve", e.Message);
        Assert.Contains("--shm-size", e.Message);
        Assert.Contains("FABRIC_SHM_DIR", e.Message);
        Assert.False(System.IO.File.Exists(File));
    }

    [Fact]
    public void Create_WithoutTheRightTo_SaysSo()
    {
        var missing = Path.Combine(_folder, "missing", "segment");
        Assert.Throws<DistributedException>(() => SharedMemorySegment.Create(missing, 64));
        Assert.SkipWhen(Environment.UserName == "root" || OperatingSystem.IsWindows(), "This user may write everywhere.");
        if (!OperatingSystem.IsWindows())
            System.IO.File.SetUnixFileMode(_folder, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        Assert.Throws<DistributedException>(() => SharedMemorySegment.Create(File, 64));
    }

    [Fact]
    public void Open_MissingOrOfAnotherLength_IsAClearError()
    {
        Assert.Contains("Could not open", Assert.Throws<DistributedException>(() => SharedMemorySegment.Open(File, 64)).Message);
        using var segment = SharedMemorySegment.Create(File, 64);
        Assert.Contains("has 64 bytes instead of 128", Assert.Throws<DistributedException>(() => SharedMemorySegment.Open(File, 128)).Message);
    }

    [Fact]
    public unsafe void Dispose_WhileHeld_KeepsTheMemoryUntilTheEnd()
    {
        var segment = SharedMemorySegment.Create(File, 64);
        Assert.True(segment.TryHold());
        var pointer = segment.Pointer;
        segment.Dispose();
        segment.Dispose();
        pointer[0] = 1;
        Assert.Equal(1, pointer[0]);
        segment.EndHold();
        Assert.False(segment.TryHold());
    }

    [Fact]
    public void Group_Made_LeavesNoFileBehind()
    {
        WithVariable(_folder, () => GroupOfThreads.Run("shm", 3, group =>
        {
            using var channel = group.CreateGradientChannel("test", 16);
            using var buffer = channel.Allocate(1000);
            group.Barrier().Wait();
            Assert.Empty(Directory.GetFileSystemEntries(_folder));
            group.Barrier().Wait();
        }));
        Assert.Empty(Directory.GetFileSystemEntries(_folder));
    }

    [Fact]
    public void Group_ThatCouldNotBeMade_LeavesNoFileBehind()
    {
        WithVariable(_folder, () =>
        {
            using var store = new HashStore();
            Assert.Throws<DistributedTimeoutException>(() => ProcessGroup.Create("shm", store, 0, 2, TimeSpan.FromMilliseconds(50)));
        });
        Assert.Empty(Directory.GetFileSystemEntries(_folder));
    }

    [Fact]
    public void Choose_VariableThatNamesNoFolder_IsRefused() => WithVariable("/no/such/folder", () =>
        Assert.Contains("FABRIC_SHM_DIR=/no/such/folder", Assert.Throws<DistributedException>(() => SharedMemoryDirectory.Choose()).Message));

    [Fact]
    public void Identity_OfThisProcess_IsAlive()
    {
        Assert.True(ProcessIdentity.Current.IsAlive);
        Assert.False((ProcessIdentity.Current with { StartTime = ProcessIdentity.Current.StartTime + 1 }).IsAlive);
        Assert.False(new ProcessIdentity(int.MaxValue, 0).IsAlive);
    }

    [Fact]
    public void Identity_OfAProcessThatEnded_IsNotAlive()
    {
        using var child = Process.Start(new ProcessStartInfo("sleep", "60"))!;
        var time = long.Parse(System.IO.File.ReadAllText($"/proc/{child.Id}/stat").Split(") ")[^1].Split(' ')[19]);
        var identity = new ProcessIdentity(child.Id, time);
        Assert.True(identity.IsAlive);
        child.Kill();
        Assert.True(SpinWait.SpinUntil(() => !identity.IsAlive, TimeSpan.FromSeconds(20)));
        child.WaitForExit();
    }

    private static void WithVariable(string value, Action body)
    {
        var before = Environment.GetEnvironmentVariable(SharedMemoryDirectory.Variable);
        Environment.SetEnvironmentVariable(SharedMemoryDirectory.Variable, value);
        try
        {
            body();
        }
        finally
        {
            Environment.SetEnvironmentVariable(SharedMemoryDirectory.Variable, before);
        }
    }
}
