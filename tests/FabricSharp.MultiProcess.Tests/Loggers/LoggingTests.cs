using System.Diagnostics;

namespace FabricSharp.MultiProcess.Tests.Loggers;

/// <summary>Only rank 0 writes, and what it wrote last is in the files, however the program ends.</summary>
public sealed class LoggingTests : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-log-").FullName;

    [Fact]
    public async Task Log_TwoRanks_OnlyRankZerosFilesExist()
    {
        var result = await RunningProgram.RunWorkerAsync($"log folder={_folder} end=well", Limit);
        var reports = result.ReportsOf(2);
        AssertComplete(reports[0].GetProperty("process").GetInt32());
    }

    [Theory]
    [InlineData("throw", 0)]
    [InlineData("throw", 1)]
    [InlineData("thread", 0)]
    [InlineData("exit", 0)]
    [InlineData("exit", 1)]
    public async Task Log_RankFails_TheLastRowsAreInTheFiles(string end, int who)
    {
        var result = await RunningProgram.RunWorkerAsync($"log folder={_folder} end={end} who={who}", Limit);
        Assert.NotEqual(0, result.ExitCode);
        AssertComplete(process: null);
    }

    [Theory]
    [InlineData("INT")]
    [InlineData("TERM")]
    [InlineData("HUP")]
    public async Task Log_RankZeroIsSignalled_EndsWithTheLastRowsInTheFiles(string signal)
    {
        using var program = RunningProgram.Worker($"log folder={_folder} end=wait");
        await program.SeeAsync(line => line.StartsWith("waits ", StringComparison.Ordinal), Limit);
        using (var kill = Process.Start("kill", [$"-{signal}", program.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]))
            await kill.WaitForExitAsync();
        var result = await program.EndAsync(TimeSpan.FromSeconds(10));
        Assert.NotEqual(0, result.ExitCode);
        AssertComplete(program.Id);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void AssertComplete(int? process)
    {
        var rows = Enumerable.Range(0, 7).SelectMany(step => new[] { FormattableString.Invariant($",{step + 0.5},{step}"), $"0,,{step}" });
        Assert.Equal(["direct,loss,step", .. rows], File.ReadAllLines(Path.Combine(_folder, "csv/version_0/metrics.csv")));
        var files = Directory.GetFiles(_folder, "*", SearchOption.AllDirectories).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal).ToList();
        Assert.Equal(2, files.Count);
        Assert.Matches($@"^events\.out\.tfevents\.\d+\..+\.{process?.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? @"\d+"}\.0$", files[0]);
        const int firstEvent = 16 + 9 + 15, scalarEvent = 16 + 9 + 2 + 15; // frame, wall time, step (all but the first), what it holds
        Assert.Equal(firstEvent + 7 * scalarEvent, new FileInfo(Directory.GetFiles(Path.Combine(_folder, "tb/version_0")).Single()).Length);
    }
}
