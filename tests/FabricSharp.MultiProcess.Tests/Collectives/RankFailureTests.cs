using System.Diagnostics;

namespace FabricSharp.MultiProcess.Tests.Collectives;

/// <summary>A rank that fails while others count on it ends them all, soon, with its own error in front and a code that is not 0.</summary>
public sealed class RankFailureTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    [Theory]
    [InlineData(0, 2)]
    [InlineData(1, 2)]
    [InlineData(2, 4)]
    public async Task Train_RankThrows_ItsErrorIsShownAndAllEnd(int who, int ranks)
    {
        var result = await RunningProgram.RunWorkerAsync($"throw who={who} ranks={ranks}", Limit);
        Assert.NotEqual(0, result.ExitCode);
        var firstError = result.Error.Split('\n').First(line => line.Contains("Exception", StringComparison.Ordinal));
        Assert.Contains("InvalidDataException: sample 17 is damaged", firstError, StringComparison.Ordinal);
        Assert.Equal(who != 0, firstError.StartsWith($"[rank {who}] ", StringComparison.Ordinal));
        Assert.DoesNotContain("\"done\"", result.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1, 7, 7)]
    [InlineData(0, 7, 7)]
    public async Task Train_RankExitsWithACode_TheProgramEndsWithIt(int who, int code, int expected)
    {
        var result = await RunningProgram.RunWorkerAsync($"exit-early who={who} code={code}", Limit);
        Assert.Equal(expected, result.ExitCode);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task Train_RankEndsEarlyAndWell_TheOthersSayWho(int who)
    {
        var result = await RunningProgram.RunWorkerAsync($"exit-early who={who}", Limit);
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains($"because rank {who} failed: it has left the group", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1, 2)]
    [InlineData(3, 4)]
    public async Task Train_RankIsKilled_AllEndAndItIsNamed(int who, int ranks)
    {
        using var program = RunningProgram.Worker($"wait ranks={ranks}");
        var processes = await ProcessesAsync(program, ranks);
        var start = Stopwatch.GetTimestamp();
        Process.GetProcessById(processes[who]).Kill();
        var result = await program.EndAsync(Limit);
        Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(2), $"It took {Stopwatch.GetElapsedTime(start).TotalSeconds:F1} s until all had ended.");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains($"rank {who} (process {processes[who]}) ended with exit code 137", result.Error, StringComparison.Ordinal);
        await AssertGoneAsync(processes);
    }

    [Fact]
    public async Task Train_RankIsStopped_IsWarnedOfAndNamed()
    {
        using var program = RunningProgram.Worker("wait ranks=2 timeout=4");
        var processes = await ProcessesAsync(program, 2);
        using (var stop = Process.Start("kill", ["-STOP", processes[1].ToString(System.Globalization.CultureInfo.InvariantCulture)]))
            await stop.WaitForExitAsync();
        var result = await program.EndAsync(Limit);
        Assert.NotEqual(0, result.ExitCode);
        Assert.Matches("FabricSharp: Rank 0 has waited 2 s, half of its limit, in operation .*rank 1 did not", result.Error);
        Assert.Contains($"the process {processes[1]} of rank 1 is stopped (SIGSTOP, Ctrl-Z or a debugger)", result.Error, StringComparison.Ordinal);
        Assert.Matches("DistributedTimeoutException: Rank 0: operation .* timed out after 4 s: .*rank 1 did not", result.Error); // call it, or do its share
        await AssertGoneAsync(processes);
    }

    [Fact]
    public async Task Train_LauncherIsKilled_NoRankOutlivesIt()
    {
        using var program = RunningProgram.Worker("wait ranks=3");
        var processes = await ProcessesAsync(program, 3);
        Process.GetProcessById(processes[0]).Kill(entireProcessTree: false);
        await program.EndAsync(Limit);
        await AssertGoneAsync(processes);
    }

    [Fact]
    public async Task Train_CtrlC_EndsAllRanks()
    {
        using var program = RunningProgram.Worker("wait ranks=2");
        var processes = await ProcessesAsync(program, 2);
        using (var interrupt = Process.Start("kill", ["-INT", .. processes.Select(id => id.ToString(System.Globalization.CultureInfo.InvariantCulture))]))
            await interrupt.WaitForExitAsync();
        var result = await program.EndAsync(Limit);
        Assert.NotEqual(0, result.ExitCode);
        await AssertGoneAsync(processes);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task Train_RankLeavesAStepOut_TheOthersSayWho(int who)
    {
        var result = await RunningProgram.RunWorkerAsync($"skip-step who={who}", Limit);
        var report = result.Reports.Single(r => r.GetProperty("rank").GetInt32() != who);
        Assert.Contains($"rank {who}", report.GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.Equal("PeerFailedException", report.GetProperty("exception").GetString());
    }

    [Theory]
    [InlineData(0, 2)]
    [InlineData(1, 3)]
    public async Task Train_RankLeavesAStepOutAndGoesOn_EveryRankSaysWhoWaitsWhere(int who, int ranks)
    {
        var result = await RunningProgram.RunWorkerAsync($"skip-step who={who} ranks={ranks} barrier=true", TimeSpan.FromSeconds(15));
        foreach (var report in result.ReportsOf(ranks))
        {
            Assert.Equal("CollectiveMismatchException", report.GetProperty("exception").GetString());
            var message = report.GetProperty("message").GetString();
            Assert.Matches($@"rank {who} waits in operation \d+ of 'the process group' \(Barrier\)", message);
            Assert.Contains($"rank {(who + 1) % ranks} waits in operation", message, StringComparison.Ordinal);
            Assert.Contains("the end of a backward pass", message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Barrier_RankDoesNotCome_TimesOutAndNamesIt()
    {
        var result = await RunningProgram.RunWorkerAsync("slow-barrier ranks=3 who=2 timeout=2", Limit);
        Assert.NotEqual(0, result.ExitCode);
        var message = result.Reports[0].GetProperty("message").GetString();
        Assert.Equal("DistributedTimeoutException", result.Reports[0].GetProperty("exception").GetString());
        Assert.Contains("(Barrier) timed out after 2 s: rank 2 did not call it", message, StringComparison.Ordinal);
    }

    private static async Task<int[]> ProcessesAsync(RunningProgram program, int ranks)
    {
        var processes = new int[ranks];
        for (var rank = 0; rank < ranks; rank++)
        {
            var own = rank;
            await program.SeeAsync(line => Remember(line, own, processes), Limit);
        }

        return processes;
    }

    private static bool Remember(string line, int rank, int[] processes)
    {
        if (!line.Contains($"report {{\"rank\":{rank},\"process\":", StringComparison.Ordinal))
            return false;
        processes[rank] = int.Parse(line[(line.LastIndexOf(':') + 1)..].TrimEnd('}'), System.Globalization.CultureInfo.InvariantCulture);
        return true;
    }

    /// <summary>Ended processes may be listed for a moment, until their parent has taken notice.</summary>
    private static async Task AssertGoneAsync(int[] processes)
    {
        var start = Stopwatch.GetTimestamp();
        while (processes.Any(IsRunning))
        {
            Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(5), $"Still running: {string.Join(", ", processes.Where(IsRunning))}.");
            await Task.Delay(10);
        }
    }

    private static bool IsRunning(int id)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{id}/stat");
            return stat[(stat.LastIndexOf(')') + 2)..][0] is not ('Z' or 'X');
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
