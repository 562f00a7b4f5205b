using FabricSharp.Testing;

namespace FabricSharp.MultiProcess.Tests.Testing;

/// <summary>A user's program, started once for each rank by a test.</summary>
public sealed class RankProcessesTests
{
    [Fact]
    public async Task RunAsync_Program_GivesOutputAndExitCodeOfEachRank()
    {
        var ranks = await RankProcesses.RunAsync(Programs.Worker, ["echo", "ranks=3"], 3);
        Assert.Equal([0, 1, 2], ranks.Select(rank => rank.Rank));
        Assert.All(ranks, rank =>
        {
            Assert.True(rank.ExitCode == 0, rank.ToString());
            Assert.Contains("\"sum\":6", rank.Output);
            Assert.Contains($"a word on standard error from rank {rank.Rank}", rank.Error);
            Assert.Equal(rank.Rank == 0, rank.Output.Contains("printed once", StringComparison.Ordinal));
        });
    }

    [Fact]
    public async Task RunAsync_OneRankFails_TheOthersEndAndSayWho()
    {
        var ranks = await RankProcesses.RunAsync(Programs.Worker, ["throw", "ranks=2", "who=1"], 2);
        Assert.All(ranks, rank => Assert.NotEqual(0, rank.ExitCode));
        Assert.Contains("sample 17 is damaged", ranks[1].Error);
        Assert.Contains("rank 1", ranks[0].Error);
    }

    [Fact]
    public async Task RunAsync_RanksThatDoNotEnd_AreEndedAtTheLimit()
    {
        var failure = await Assert.ThrowsAsync<TimeoutException>(() => RankProcesses.RunAsync(Programs.Worker, ["wait", "ranks=2"], 2, TimeSpan.FromSeconds(6)));
        Assert.Contains("did not end within 6 s: 0, 1", failure.Message);
        var processes = failure.Message.Split("\"process\":")[1..].Select(text => int.Parse(text.Split(',', '}')[0], null)).ToList();
        Assert.Equal(2, processes.Count);
        Assert.All(processes, process => Assert.False(Directory.Exists($"/proc/{process}"), $"Process {process} is still there."));
    }

    [Fact]
    public async Task RunAsync_ProgramOfAnotherNumberOfRanks_IsRefusedByIt()
    {
        var ranks = await RankProcesses.RunAsync(Programs.Worker, ["echo", "ranks=2"], 3);
        Assert.All(ranks, rank => Assert.Contains("does not match the world size (3)", rank.Error));
    }
}
