using System.Globalization;

namespace FabricSharp.MultiProcess.Tests.Checkpointing;

/// <summary>
/// Savers that are killed with SIGKILL at random moments: the next one loads the newest checkpoint, whole, and nothing that was reported as saved is lost.
/// FABRIC_TEST_KILLS sets how often; 100 takes about two minutes.
/// </summary>
public sealed class KillTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("fabric-kills-").FullName;

    private static int Kills => int.Parse(Environment.GetEnvironmentVariable("FABRIC_TEST_KILLS") ?? "15", CultureInfo.InvariantCulture);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Save_KilledAtRandomMoments_LeavesTheNewestCheckpointWhole()
    {
        var random = new Random(20241);
        var (saved, loaded) = (0L, 0L);
        for (var kill = 0; kill < Kills; kill++)
        {
            // By turns new names, the same name, and in the background.
            var kind = (kill % 3) switch { 0 => "same=false", 1 => "same=true", _ => "async=true" };
            var folder = Path.Combine(_folder, kill % 3 == 1 ? "same" : "numbered");
            using var saver = RunningProgram.Worker($"save-loop ranks=1 path={folder} {kind}");
            await saver.SeeAsync(line => line.StartsWith("saved ", StringComparison.Ordinal), TimeSpan.FromSeconds(30));
            await Task.Delay(TimeSpan.FromMicroseconds(random.Next(100_000)));
            saver.Dispose();
            var result = await saver.EndAsync(TimeSpan.FromSeconds(30));
            (var before, loaded) = (LastOf(folder), Numbers(result, "loaded ")[0]);
            Assert.True(loaded >= before, $"Kill {kill}: save {before} was reported, but {loaded} was loaded.\n{result}");
            saved = Numbers(result, "saved ").Max();
            File.WriteAllText(folder + ".last", saved.ToString(CultureInfo.InvariantCulture));
        }

        foreach (var folder in Directory.GetDirectories(_folder))
        {
            var last = await RunningProgram.RunWorkerAsync($"save-loop ranks=1 path={folder} saves=1 same={(Path.GetFileName(folder) == "same" ? "true" : "false")}");
            Assert.True(last.ExitCode == 0, last.ToString());
            Assert.True(Numbers(last, "loaded ")[0] >= LastOf(folder), last.ToString());
            Assert.All(Directory.GetFileSystemEntries(folder), entry => Assert.Matches(@"/step-\d+$", entry)); // what the killed ones left is gone
        }
    }

    /// <summary>What the last saver in a folder reported.</summary>
    private static long LastOf(string folder) => File.Exists(folder + ".last") ? long.Parse(File.ReadAllText(folder + ".last"), CultureInfo.InvariantCulture) : 0;

    private static List<long> Numbers(ProgramResult result, string word) =>
        [.. result.Output.Split('\n').Where(line => line.StartsWith(word, StringComparison.Ordinal)).Select(line => long.Parse(line[word.Length..], CultureInfo.InvariantCulture))];
}
