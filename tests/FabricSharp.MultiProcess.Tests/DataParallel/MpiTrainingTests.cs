using System.Diagnostics;
using System.Text.Json;

namespace FabricSharp.MultiProcess.Tests.DataParallel;

/// <summary>DDP over the mpi back end, under a real mpirun.</summary>
public sealed class MpiTrainingTests
{
    private const double Tolerance = 1e-6;

    [Theory]
    [InlineData("mlp", 2, "")]
    [InlineData("mlp", 4, "")]
    [InlineData("unused-differs", 3, " flag=true")]
    [InlineData("unused-everywhere", 2, " static=true")]
    [InlineData("mixed-types", 2, " cap=0.0001")]
    [InlineData("no-backward-on-one-rank", 3, " flag=true views=false")]
    [InlineData("mlp", 2, " width=160 flag=true")]
    public async Task Train_OverMpi_EqualsTheReference(string training, int ranks, string options)
    {
        var result = await MpiRun.RunWorkerAsync(ranks, $"train case={training} ranks=auto backend=mpi{options}");
        AssertEqual(result, ranks);
        Assert.Contains("distributed_backend=mpi", result.Error, StringComparison.Ordinal);
    }

    /// <summary>The same bits on both back ends, which combine in the same order.</summary>
    [Fact]
    public async Task Train_OverMpiAndOverSharedMemory_GivesTheSameBits()
    {
        const string Case = "train case=mlp ranks=3 steps=4";
        var mpi = await MpiRun.RunWorkerAsync(3, $"{Case} backend=mpi");
        var shm = await RunningProgram.RunWorkerAsync($"{Case} backend=shm", null, ("OMP_NUM_THREADS", "1"));
        Assert.Equal(shm.ReportsOf(3)[0].GetProperty("hash").GetString(), mpi.ReportsOf(3)[0].GetProperty("hash").GetString());
    }

    /// <summary>Each of two ranks takes itself for the only one of its machine, as it is on two: no address is set, and none is needed.</summary>
    [Fact]
    public async Task Train_TwoNodes_MeetThroughMpiWithoutAnAddress()
    {
        var script = $"export OMPI_COMM_WORLD_LOCAL_RANK=0 OMPI_COMM_WORLD_LOCAL_SIZE=1; exec dotnet {Programs.Worker}.dll train case=mlp ranks=1 nodes=2";
        var result = await MpiRun.RunAsync(2, ["sh", "-c", script]);
        AssertEqual(result, 2);
        Assert.Contains("distributed_backend=mpi", result.Error, StringComparison.Ordinal); // the default for several nodes
    }

    [Fact]
    public async Task Train_OnOneMachineUnderMpirun_UsesSharedMemoryUnlessToldOtherwise() =>
        Assert.Contains("distributed_backend=shm", (await MpiRun.RunWorkerAsync(2, "train case=mlp ranks=auto steps=2")).Error, StringComparison.Ordinal);

    [Fact]
    public async Task Train_RankThrows_ItsErrorIsShownAndTheJobEnds()
    {
        var result = await MpiRun.RunWorkerAsync(2, "throw who=1 ranks=auto backend=mpi");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("InvalidDataException: sample 17 is damaged", result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("\"done\"", result.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, 2)]
    [InlineData(2, 3)]
    public async Task Train_RankIsKilled_TheJobEndsSoonWithAMessage(int who, int ranks)
    {
        using var program = MpiRun.Worker(ranks, "wait ranks=auto backend=mpi");
        var processes = new int[ranks];
        for (var rank = 0; rank < ranks; rank++)
        {
            var (own, mark) = (rank, $"report {{\"rank\":{rank},\"process\":");
            await program.SeeAsync(line => Remember(line, mark, ref processes[own]), MpiRun.Limit);
        }

        var start = Stopwatch.GetTimestamp();
        Process.GetProcessById(processes[who]).Kill();
        var result = await program.EndAsync(MpiRun.Limit);
        Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(5), $"It took {Stopwatch.GetElapsedTime(start).TotalSeconds:F1} s until all had ended.");
        Assert.NotEqual(0, result.ExitCode);
        Assert.True((result.Error + result.Output).Contains($"noticed that process rank {who} with PID", StringComparison.Ordinal), result.ToString());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task Train_RankEndsEarlyAndWell_TheOthersSayWho(int who)
    {
        var result = await MpiRun.RunWorkerAsync(2, $"exit-early who={who} ranks=auto backend=mpi");
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains($"because rank {who} failed: it has left the group", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Train_RankLeavesAStepOutAndGoesOn_EndsWithinTheLimitSayingWho()
    {
        var result = await MpiRun.RunWorkerAsync(2, "skip-step who=1 ranks=auto backend=mpi barrier=true timeout=2");
        var messages = result.Reports.Select(report => report.GetProperty("message").GetString()).ToList();
        Assert.Contains(messages, message => message!.Contains("rank 0", StringComparison.Ordinal) || message.Contains("rank 1", StringComparison.Ordinal));
        Assert.All(result.Reports, report => Assert.EndsWith("Exception", report.GetProperty("exception").GetString(), StringComparison.Ordinal));
        Assert.True(result.Elapsed < TimeSpan.FromSeconds(20));
    }

    private static bool Remember(string line, string mark, ref int process)
    {
        var at = line.IndexOf(mark, StringComparison.Ordinal);
        if (at < 0)
            return false;
        process = int.Parse(line[(at + mark.Length)..].TrimEnd('}'), System.Globalization.CultureInfo.InvariantCulture);
        return true;
    }

    private static void AssertEqual(ProgramResult result, int ranks)
    {
        var reports = result.ReportsOf(ranks);
        foreach (JsonElement report in reports)
        {
            Assert.Equal(ranks, report.GetProperty("world").GetInt32());
            Assert.True(report.GetProperty("difference").GetDouble() <= Tolerance, $"The parameters are not the reference's.\n{result}");
            Assert.True(report.GetProperty("nullGradientsAgree").GetBoolean(), $"Other gradients than the reference's, or a null where the reference has one.\n{result}");
            Assert.Equal(reports[0].GetProperty("hash").GetString(), report.GetProperty("hash").GetString());
        }
    }
}
