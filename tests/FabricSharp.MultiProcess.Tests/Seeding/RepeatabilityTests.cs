namespace FabricSharp.MultiProcess.Tests.Seeding;

/// <summary>Two runs with one seed are one run.</summary>
public sealed class RepeatabilityTests
{
    [Fact]
    public async Task Train_TwiceWithOneSeed_GivesBitwiseTheSameLossesOnEachRank()
    {
        var first = await RunAsync("seeded seed=7");
        var second = await RunAsync("seeded seed=7 prefetch=2");
        var other = await RunAsync("seeded seed=8");
        Assert.Equal(first, second);
        Assert.NotEqual(first, other);
        Assert.NotEqual(first[0].Losses, first[1].Losses); // the ranks' shares differ
        Assert.Equal(first[0].Norms, first[1].Norms); // their averaged gradients do not
    }

    private static async Task<List<(string Losses, string Norms)>> RunAsync(string arguments)
    {
        var result = await RunningProgram.RunWorkerAsync(arguments);
        return [.. result.ReportsOf(2).Select(report => (report.GetProperty("losses").GetRawText(), report.GetProperty("norms").GetRawText()))];
    }
}
