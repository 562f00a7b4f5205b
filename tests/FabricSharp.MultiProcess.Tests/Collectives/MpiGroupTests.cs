using System.Text.RegularExpressions;

namespace FabricSharp.MultiProcess.Tests.Collectives;

/// <summary>Groups of the mpi back end between ranks that a real mpirun started.</summary>
public sealed class MpiGroupTests
{
    [Theory]
    [InlineData(2, "")]
    [InlineData(3, "")]
    [InlineData(4, "")]
    [InlineData(3, " pieces=4096")]
    public async Task Cases_OfEveryBackend_Hold(int ranks, string pieces)
    {
        var result = await MpiRun.RunWorkerAsync(ranks, "mpi-cases" + pieces);
        AssertCasesHold(result, ranks);
    }

    [Fact]
    public async Task Cases_UnderMpich_Hold()
    {
        var mpiexec = MpiRun.Find("mpiexec.hydra");
        Assert.SkipWhen(mpiexec is null, "There is no mpiexec.hydra: apt-get install mpich.");
        using var program = new RunningProgram(mpiexec, ["-n", "3", "dotnet", Programs.Worker + ".dll", "mpi-cases"], ("OMP_NUM_THREADS", "1"));
        AssertCasesHold(await program.EndAsync(MpiRun.Limit), 3);
    }

    /// <summary>One run for all: starting ranks takes longer than failing.</summary>
    [Fact]
    public async Task Failures_OfOneRank_AreSeenByAllInTime()
    {
        var result = await MpiRun.RunWorkerAsync(3, "mpi-failure");
        var seen = result.ReportsOf(3).Select(report => report.GetProperty("seen")).ToArray();
        string? On(int rank, string failure) => seen[rank].GetProperty(failure).GetString();
        void AllSee(string failure, string pattern) => Assert.All([0, 1, 2], rank => Matches(pattern, On(rank, failure), failure));
        void OthersSee(string failure, string pattern) => Assert.All([0, 2], rank => Matches(pattern, On(rank, failure), failure));

        AllSee("other-count", "Mismatch.*operation 2 of 'the process group'.*rank 0 called AllReduce\\(Sum\\) of 10 × Float32; rank 1 called AllReduce\\(Sum\\) of 11 × Float32");
        AllSee("other-count-of-many", "Mismatch.*rank 0 called AllReduce\\(Sum\\) of 100000 .*rank 1 called AllReduce\\(Sum\\) of 100001");
        AllSee("other-type", "Mismatch.*rank 0 called [^;]*Float32; rank 1 called [^;]*Float64");
        AllSee("other-reduction", "Mismatch.*rank 0 called AllReduce\\(Sum\\).*rank 1 called AllReduce\\(Max\\)");
        AllSee("other-factor", "Mismatch.*rank 0 called AllReduce\\(PreMulSum\\(2\\)\\).*rank 1 called AllReduce\\(PreMulSum\\(3\\)\\)");
        AllSee("other-root", "Mismatch.*rank 0 called Broadcast of 10 × Float32 from rank 0; rank 1 called Broadcast of 10 × Float32 from rank 1");
        AllSee("other-operation", "Mismatch.*rank 0 called AllReduce\\(Sum\\) of 100000 × Float32; rank 1 called Barrier");
        AllSee("other-splits", "Mismatch.*rank 1 sends 4 × Float32 to rank 2, which expects 2\\.");
        AllSee("other-list", "Mismatch.*rank 0 called NewGroup\\(0, 2\\); rank 1 called NewGroup\\(0, 1\\)");
        AllSee("other-reducer", "Mismatch.*rank 0 called the set-up of a gradient reducer");
        foreach (var rank in new[] { 0, 1 })
            Matches($"Mismatch.*: Rank {rank}: rank 1 sends 10 × Float32 to rank 0 with tag 5, which receives 11 × Float32", On(rank, "other-message"), "other-message");
        OthersSee("does-not-come", "Timeout.*AllReduce\\(Sum\\) of 10 × Float32\\) timed out after 0\\.3 s: rank 1 did not call it");
        OthersSee("does-not-come-to-many", "Timeout.*AllReduce\\(Sum\\) of 100000 × Float32\\) timed out after 0\\.3 s: rank 1 did not call it");
        OthersSee("does-not-send", "Timeout.*Recv of 10 × Float32 from rank 1 with tag 2 timed out after 0\\.3 s: rank 1 did not call Send");
        OthersSee("monitored", "Timeout.*Ranks 1 failed to pass monitoredBarrier in 300 ms");
        OthersSee("aborts", "PeerFailed.*because rank 1 failed: disk full: größer");
        OthersSee("aborts-at-length", "PeerFailed.*because rank 1 failed: x{1000,5000}$");
        OthersSee("aborts-reducer", "PeerFailed.*'a, control'.*because rank 1 failed: no");
        OthersSee("leaves", "PeerFailed.*because rank [0-2] failed: it has left the group"); // who hears of it leaves, too, and may be heard first
        OthersSee("leaves-many", "PeerFailed.*because rank [0-2] failed: it has left the group");
        OthersSee("leaves-receiver", "PeerFailed.*Recv of 10 × Float32 from rank 1.*because rank [0-2] failed: it has left the group");
        Matches("DistributedException.*enough", On(1, "calls-after-abort"), "calls-after-abort");
        Assert.All(new[] { "does-not-come", "does-not-send", "monitored", "aborts", "leaves" }, failure => Assert.Null(On(1, failure)));
    }

    [Theory]
    [InlineData("size=3", "this process is rank 0 of 2 for Open MPI")]
    [InlineData("rank=1 timeout=1", "rank 1 of 2 was asked for")]
    public async Task Create_OtherThanMpisWorld_IsRefused(string what, string message)
    {
        var result = await MpiRun.RunWorkerAsync(2, "mpi-join " + what);
        var report = result.ReportsOf(2)[0];
        Assert.Equal("ArgumentException", report.GetProperty("exception").GetString());
        Assert.Contains(message, report.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Create_RankThatDoesNotCome_IsNamed()
    {
        var result = await MpiRun.RunWorkerAsync(3, "mpi-join absent=2 timeout=1");
        Assert.Equal([0, 1], result.Reports.Select(report => report.GetProperty("rank").GetInt32()));
        Assert.All(result.Reports, report =>
        {
            Assert.Equal("DistributedTimeoutException", report.GetProperty("exception").GetString());
            Assert.Contains("rank 2 did not come to the process group within 1 s", report.GetProperty("message").GetString(), StringComparison.Ordinal);
        });
    }

    [Fact]
    public async Task Create_WithoutMpirun_SaysHowToStart()
    {
        Assert.SkipWhen(MpiRun.Find("mpirun") is null, "There is no MPI: apt-get install openmpi-bin.");
        var report = (await RunningProgram.RunWorkerAsync("mpi-join")).ReportsOf(1)[0];
        Assert.Contains("start the program with `mpirun -n 1 dotnet App.dll`", report.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Create_LibraryThatIsNotThere_SaysWhatWasTried()
    {
        var report = (await RunningProgram.RunWorkerAsync("mpi-join", null, ("FABRIC_MPI_LIBRARY", "/nowhere/libmpi.so"))).ReportsOf(1)[0];
        Assert.Contains("no MPI library was found (/nowhere/libmpi.so: not found", report.GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.Contains("apt-get install openmpi-bin", report.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    private static void AssertCasesHold(ProgramResult result, int ranks)
    {
        foreach (var report in result.ReportsOf(ranks))
        {
            Assert.True(report.GetProperty("cases").GetInt32() > 10);
            Assert.True(report.GetProperty("failures").GetArrayLength() == 0, string.Join("\n", report.GetProperty("failures").EnumerateArray().Select(failure => failure.GetString())));
        }
    }

    private static void Matches(string pattern, string? text, string failure) => Assert.True(text is not null && Regex.IsMatch(text, pattern), $"{failure}: {text ?? "no failure"}");
}
