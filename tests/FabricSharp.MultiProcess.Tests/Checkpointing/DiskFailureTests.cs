namespace FabricSharp.MultiProcess.Tests.Checkpointing;

/// <summary>Disks that do not take what is written: a clear error on every rank, and the checkpoint of before.</summary>
public sealed class DiskFailureTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-disk-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("false")]
    [InlineData("true")]
    public async Task Save_FileGrowsBeyondTheLimit_FailsOnEveryRankAndTheOldOneStays(string async)
    {
        Assert.Equal(0, (await RunningProgram.RunWorkerAsync($"save-loop ranks=1 path={_folder} saves=1")).ExitCode);
        using var program = new RunningProgram("/bin/bash", ["-c", $"trap '' XFSZ; exec {Programs.Worker} save-fails ranks=2 number=2 largest=1000000 elements=1000000 async={async} path={_folder}"]);
        var reports = (await program.EndAsync(TimeSpan.FromSeconds(60))).ReportsOf(2);
        foreach (var report in reports)
        {
            Assert.Equal("CheckpointException", report.GetProperty("exception").GetString());
            Assert.Contains("step-2' could not be saved", report.GetProperty("message").GetString());
            Assert.Contains("What was there before is unchanged", report.GetProperty("message").GetString());
        }

        await LoadsSaveOneAsync();
    }

    [Fact]
    public async Task Save_WhereAFileIsInTheWay_FailsOnEveryRank()
    {
        var file = Path.Combine(_folder, "blocked");
        File.WriteAllText(file, "");
        var reports = (await RunningProgram.RunWorkerAsync($"save-fails ranks=2 path={file}")).ReportsOf(2);
        Assert.All(reports, report => Assert.Contains("could not be saved", report.GetProperty("message").GetString()));
    }

    [Fact]
    public async Task Save_ReadOnlyFolder_FailsOnEveryRankAndTheOldOneStays()
    {
        Assert.Equal(0, (await RunningProgram.RunWorkerAsync($"save-loop ranks=1 path={_folder} saves=1")).ExitCode);
        // Even root may not write where this capability was given up.
        var giveUp = Environment.UserName == "root" ? "setpriv --bounding-set=-dac_override,-dac_read_search " : "";
        using var program = new RunningProgram("/bin/bash", ["-c", $"chmod 555 {_folder}; {giveUp}{Programs.Worker} save-fails ranks=2 number=2 path={_folder}; code=$?; chmod 755 {_folder}; exit $code"]);
        var reports = (await program.EndAsync(TimeSpan.FromSeconds(60))).ReportsOf(2);
        foreach (var report in reports)
        {
            Assert.Contains("step-2' could not be saved", report.GetProperty("message").GetString());
            Assert.Contains("denied", report.GetProperty("message").GetString());
        }

        await LoadsSaveOneAsync();
    }

    private async Task LoadsSaveOneAsync()
    {
        Assert.Equal(["step-1"], Directory.GetFileSystemEntries(_folder, "step-*").Select(path => Path.GetFileName(path)));
        var after = await RunningProgram.RunWorkerAsync($"save-loop ranks=1 path={_folder} saves=0");
        Assert.True(after.ExitCode == 0 && after.Output.StartsWith("loaded 1\n", StringComparison.Ordinal), after.ToString());
    }
}
