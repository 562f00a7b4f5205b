using System.Diagnostics;
using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.Collectives;

/// <summary>A file store between processes, also such as are killed while they write.</summary>
public sealed class FileStoreTests : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("fabric-store-");

    private string FilePath => Path.Combine(_folder.FullName, "store");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task Users_OfThreeProcesses_LoseNothingAndTheLastRemovesTheFile()
    {
        var programs = Enumerable.Range(0, 3).Select(rank => RunningProgram.Worker($"file-store path={FilePath} rank={rank} ranks=3")).ToList();
        List<JsonElement> reports = [];
        foreach (var program in programs)
        {
            using (program)
            {
                var result = await program.EndAsync(Limit);
                Assert.True(result.ExitCode == 0, result.ToString());
                reports.AddRange(result.Reports);
            }
        }

        Assert.Equal(Enumerable.Range(1, 600).Select(i => (long)i), reports.SelectMany(report => report.GetProperty("seen").EnumerateArray().Select(seen => seen.GetInt64())).Order());
        Assert.All(reports, report =>
        {
            Assert.Equal(600, report.GetProperty("counter").GetInt64());
            Assert.Equal([200, 200, 200], report.GetProperty("log").GetString()!.GroupBy(c => c).Select(group => group.Count()));
            Assert.All(report.GetProperty("last").EnumerateArray(), last => Assert.Equal("199", last.GetString()));
        });
        Assert.Empty(_folder.GetFiles());
    }

    [Fact]
    public async Task User_KilledWhileItWrites_LeavesAStoreThatWorks()
    {
        using var observer = new FabricSharp.Collectives.FileStore(FilePath);
        for (var i = 0; i < 5; i++)
        {
            using (var writer = RunningProgram.Worker($"file-store-write path={FilePath}"))
            {
                await writer.SeeAsync(line => line.StartsWith("report ", StringComparison.Ordinal), Limit);
                await Task.Delay(TimeSpan.FromMilliseconds(3 * i), TestContext.Current.CancellationToken); // another moment each time
                writer.Dispose();
                await writer.EndAsync(Limit);
            }

            var start = Stopwatch.GetTimestamp();
            observer.Add("killed", 1);
            if (observer.Check(["large"]))
                Assert.Single(observer.Get("large").Distinct()); // whole, of one write
            Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(10));
        }

        Assert.Equal(5, observer.Add("killed", 0));
        observer.Dispose();
        Assert.Empty(_folder.GetFiles());
    }
}
