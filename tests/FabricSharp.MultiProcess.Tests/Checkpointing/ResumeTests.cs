using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.Checkpointing;

/// <summary>A run of two ranks that dies in the middle of an epoch and is resumed has the losses of the run that was not interrupted, bit for bit.</summary>
public sealed class ResumeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-resume-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("32-true", "false")]
    [InlineData("bf16-mixed", "false")]
    [InlineData("bf16-mixed", "true")]
    [InlineData("scaled", "false")]
    public async Task Resume_KilledInTheMiddleOfAnEpoch_IsBitwiseTheUninterruptedRun(string precision, string async)
    {
        var common = $"precision={precision} async={async} path={_folder}";
        var whole = (await RunningProgram.RunWorkerAsync($"resume {common}")).ReportsOf(2);
        var killed = await RunningProgram.RunWorkerAsync($"resume {common} save-every=5 die=13");
        Assert.NotEqual(0, killed.ExitCode);
        Assert.Empty(killed.Reports);
        var resumed = (await RunningProgram.RunWorkerAsync($"resume {common} resume=true")).ReportsOf(2);
        for (var rank = 0; rank < 2; rank++)
        {
            var first = resumed[rank].GetProperty("first").GetInt32();
            Assert.Contains(first, async == "true" ? new[] { 6, 11 } : [11]); // what was being written when it died is not there
            Assert.Equal(24, whole[rank].GetProperty("losses").GetArrayLength());
            Assert.Equal(Losses(whole[rank]).Skip(first), Losses(resumed[rank]));
            Assert.Equal(whole[rank].GetProperty("rate").GetDouble(), resumed[rank].GetProperty("rate").GetDouble());
            Assert.Equal(whole[rank].GetProperty("random").GetSingle(), resumed[rank].GetProperty("random").GetSingle());
        }

        Assert.NotEqual(Losses(whole[0]), Losses(whole[1]));
        Assert.NotEqual(whole[0].GetProperty("random").GetSingle(), whole[1].GetProperty("random").GetSingle()); // each rank has numbers of its own
    }

    private static IEnumerable<float> Losses(JsonElement report) => report.GetProperty("losses").EnumerateArray().Select(loss => loss.GetSingle());
}
