using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using FabricSharp.MultiProcess.Tests.Launching;

namespace FabricSharp.MultiProcess.Tests.Collectives;

/// <summary>
/// Random faults at random moments of training. Whatever happens, every rank ends, in time, with an error that names who failed, and nothing is left in shared memory. FABRIC_CHAOS_SEED
/// repeats a run; FABRIC_CHAOS_FACTOR makes it longer.
/// </summary>
public sealed class ChaosTests : IDisposable
{
    private const double FrozenLimit = 2;
    private static readonly TimeSpan StartLimit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan EndLimit = TimeSpan.FromSeconds(2);

    private static readonly string[] Faults = ["kill", "stop", "crash", "die", "throw", "mismatch", "leave", "slow", "abort"];

    private static readonly int Seed = Variable("FABRIC_CHAOS_SEED", Environment.TickCount & 0xFFFFF);
    private static readonly int Factor = Variable("FABRIC_CHAOS_FACTOR", 1);

    private readonly DirectoryInfo _memory = Directory.CreateDirectory(Path.Combine(Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath(), $"chaos-{Guid.NewGuid():N}"));

    public ChaosTests() => TestContext.Current.TestOutputHelper?.WriteLine($"FABRIC_CHAOS_SEED={Seed} FABRIC_CHAOS_FACTOR={Factor}");

    public void Dispose() => _memory.Delete(recursive: true);

    [Fact]
    public async Task Processes_OneFaultEach_EndWithTheRightErrorOnEveryRank()
    {
        var random = new Random(Seed);
        var jobs = Enumerable.Range(0, 18 * Factor).Select(i => Job.Draw(Faults[i % Faults.Length], random)).ToList();
        await Parallel.ForEachAsync(jobs, new ParallelOptions { MaxDegreeOfParallelism = 2 }, async (job, _) => await RunAsync(job));
        AssertNothingIsLeft();
    }

    [Fact]
    public async Task Processes_StoppedContinuedAndSlow_GoOn()
    {
        var result = await RunningProgram.RunWorkerAsync($"chaos-pauses ranks=3 count={16 * Factor} seed={Seed} timeout=30", StartLimit * Factor, Memory);
        foreach (var report in result.ReportsOf(3))
        {
            Assert.True(report.GetProperty("exception").ValueKind == JsonValueKind.Null, $"seed {Seed}: {result}");
            Assert.Equal(3, report.GetProperty("weight").GetDouble());
        }

        AssertNothingIsLeft();
    }

    [Fact]
    public async Task Threads_OneFaultEach_EndWithTheRightErrorOnEveryRank()
    {
        var jobs = 24 * Factor;
        var result = await RunningProgram.RunWorkerAsync($"chaos-threads jobs={jobs} seed={Seed}", StartLimit * Factor, Memory);
        foreach (var report in result.ReportsOf(jobs))
        {
            var (fault, who, seconds) = (report.GetProperty("fault").GetString()!, report.GetProperty("who").GetInt32(), report.GetProperty("seconds").GetDouble());
            var exceptions = report.GetProperty("exceptions").EnumerateArray().Select(e => e.GetString()).ToList();
            var messages = report.GetProperty("messages").EnumerateArray().Select(e => e.GetString()).ToList();
            for (var rank = 0; rank < exceptions.Count; rank++)
                AssertRightError(fault, rank, who, exceptions[rank], messages[rank], () => $"seed {Seed}: {report.GetRawText()}");
            Assert.True(seconds < 10, $"seed {Seed}: {report.GetRawText()}");
        }

        AssertNothingIsLeft();
    }

    [Theory]
    [InlineData("20k", false)] // not even the block where the ranks meet
    [InlineData("300k", true)] // but not the channel
    public async Task SharedMemory_WithoutRoom_IsAnErrorOnEveryRankWithTheRemedy(string size, bool meet)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && await CanMountAsync(), "A file system of a given size cannot be mounted here.");
        var port = ExternalRanks.FreePort();
        var script = $"mount -t tmpfs -o size={size} none {_memory.FullName} && {{ for r in 1 0; do LOCAL_RANK=$r '{Programs.Worker}' chaos ranks=2 timeout=5 & done; wait; ls -A {_memory.FullName}; }}";
        using var program = new RunningProgram("unshare", ["-rm", "sh", "-c", script], [Memory, ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", $"{port}")]);
        var result = await program.EndAsync(StartLimit);
        Assert.Contains("Could not reserve", result.Error, StringComparison.Ordinal);
        Assert.Contains("FABRIC_SHM_DIR", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("\"exception\":null", result.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("fabric-", result.Output, StringComparison.Ordinal);
        Assert.True(result.Elapsed < TimeSpan.FromSeconds(meet ? 10 : 20), result.ToString());
    }

    [Fact]
    public async Task Launch_StorePortTaken_EndsAtOnceAndNamesIt()
    {
        using var listener = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Any, 0);
        listener.Start();
        var port = ((System.Net.IPEndPoint)listener.LocalEndpoint).Port;
        var result = await RunningProgram.RunWorkerAsync("chaos ranks=2", StartLimit, Memory, ("MASTER_PORT", $"{port}"));
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains($"The server socket has failed to listen on any local network address. port: {port}", result.Error, StringComparison.Ordinal);
        Assert.Empty(result.Reports);
        AssertNothingIsLeft();
    }

    private (string, string?) Memory => ("FABRIC_SHM_DIR", _memory.FullName);

    private async Task RunAsync(Job job)
    {
        var port = ExternalRanks.FreePort();
        var programs = Enumerable.Range(0, job.Ranks)
            .Select(rank => RunningProgram.Worker(job.Arguments, [Memory, .. ExternalRanks.Local(rank, job.Ranks, port)])).ToList();
        try
        {
            var results = new ProgramResult?[job.Ranks];
            if (job.Fault != "stop")
                results[job.Who] = await programs[job.Who].EndAsync(StartLimit);
            var start = Stopwatch.GetTimestamp();
            for (var rank = 0; rank < job.Ranks; rank++)
                if (rank != job.Who)
                    results[rank] = await programs[rank].EndAsync(StartLimit);
            var took = Stopwatch.GetElapsedTime(start);
            programs[job.Who].Dispose(); // a stopped one is ended by no error of its own
            results[job.Who] ??= await programs[job.Who].EndAsync(StartLimit);
            string Describe() => $"seed {Seed}, {job}; the others ended {took.TotalSeconds:F2} s later\n{string.Join("\n", results.Select((result, rank) => $"=== rank {rank}: {result}"))}";
            Assert.True(job.Fault == "stop" || took < EndLimit, Describe());
            for (var rank = 0; rank < job.Ranks; rank++)
            {
                var report = results[rank]!.Reports.Select(r => (JsonElement?)r).SingleOrDefault();
                if (rank == job.Who && job.EndsItself)
                    Assert.True((report is null || job.MayStillSpeak && FailedByItself(report.Value)) && (results[rank]!.ExitCode != 0 || job.Fault == "leave"), Describe());
                else
                    AssertRightError(job.Fault, rank, job.Who, report?.GetProperty("exception").GetString() ?? (report is null ? "no report" : null), report?.GetProperty("message").GetString(), Describe);
            }
        }
        finally
        {
            programs.ForEach(program => program.Dispose());
        }
    }

    private static bool FailedByItself(JsonElement report) => report.GetProperty("message").GetString()?.Contains("this rank has given the group up", StringComparison.Ordinal) == true;

    private static void AssertRightError(string fault, int rank, int who, string? exception, string? message, Func<string> describe)
    {
        var own = rank == who;
        var expected = fault switch
        {
            "slow" => null,
            "mismatch" => "CollectiveMismatchException",
            "throw" when own => "InvalidDataException",
            "abort" when own => "OperationCanceledException",
            "stop" or "absent" when !own => "DistributedTimeoutException",
            _ => "PeerFailedException",
        };
        Assert.True(exception == expected || (fault is "stop" or "absent" && exception == "PeerFailedException"), $"Rank {rank} ended in {exception ?? "nothing"} instead of {expected ?? "nothing"}: {message}\n{describe()}");
        if (exception is null || (own && fault != "mismatch"))
            return;
        Assert.True(message!.Contains($"rank {who}", StringComparison.Ordinal) || exception == "PeerFailedException" && fault is "stop" or "absent", $"Rank {rank} does not name rank {who}: {message}\n{describe()}");
    }

    private void AssertNothingIsLeft() => Assert.True(_memory.GetFiles().Length == 0, $"seed {Seed}: left in shared memory: {string.Join(", ", _memory.GetFiles().Select(file => file.Name))}");

    private static async Task<bool> CanMountAsync()
    {
        try
        {
            using var program = new RunningProgram("unshare", ["-rm", "mount", "-t", "tmpfs", "-o", "size=20k", "none", "/mnt"]);
            return (await program.EndAsync(StartLimit)).ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }

    private static int Variable(string name, int usual) => int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : usual;

    /// <summary>A job of some ranks and what happens to one of them.</summary>
    private sealed record Job(string Fault, int Ranks, int Who, int Step, int Place, int Delay)
    {
        /// <summary>Whether the rank that suffers the fault has no last word.</summary>
        public bool EndsItself => Fault is "kill" or "stop" or "crash" or "die" or "leave";

        /// <summary>Whether its training thread may see the fault of another thread, and say so, before the process is gone.</summary>
        public bool MayStillSpeak => Fault is "die";

        public string Arguments => $"chaos ranks={Ranks} fault={Fault} who={Who} step={Step} place={Place} delay={Delay} timeout={(Fault == "stop" ? FrozenLimit : 30).ToString(CultureInfo.InvariantCulture)}";

        public static Job Draw(string fault, Random random)
        {
            var ranks = random.Next(2, 4);
            return new Job(fault, ranks, random.Next(ranks), random.Next(1, 50), random.Next(4), random.Next(3000));
        }
    }
}
