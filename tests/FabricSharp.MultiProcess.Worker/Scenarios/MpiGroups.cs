using System.Diagnostics;
using System.Globalization;
using FabricSharp.Collectives;
using FabricSharp.Collectives.Mpi;
using FabricSharp.Tests.Collectives.Cases;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Process groups of the mpi back end, without Fabric, under a real mpirun.</summary>
internal static class MpiGroups
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(25), Short = TimeSpan.FromMilliseconds(300);

    /// <summary>What one rank does while the others do something else; <c>who</c> is that rank.</summary>
    private static readonly Dictionary<string, (Action<ProcessGroup> One, Action<ProcessGroup> Others)> Failures = new()
    {
        ["other-count"] = (group => group.AllReduce(ones(11)).Wait(), group => group.AllReduce(ones(10)).Wait()),
        ["other-count-of-many"] = (group => group.AllReduce(ones(100_001)).Wait(), group => group.AllReduce(ones(100_000)).Wait()),
        ["other-type"] = (group => group.AllReduce(ones(10, ScalarType.Float64)).Wait(), group => group.AllReduce(ones(10)).Wait()),
        ["other-reduction"] = (group => group.AllReduce(ones(10), ReduceOp.Max).Wait(), group => group.AllReduce(ones(10)).Wait()),
        ["other-factor"] = (group => group.AllReduce(ones(10), ReduceOp.PreMulSum(3)).Wait(), group => group.AllReduce(ones(10), ReduceOp.PreMulSum(2)).Wait()),
        ["other-root"] = (group => group.Broadcast(ones(10), 1).Wait(), group => group.Broadcast(ones(10), 0).Wait()),
        ["other-operation"] = (group => group.Barrier().Wait(), group => group.AllReduce(ones(100_000)).Wait()),
        ["other-splits"] = (group => group.AllToAll(zeros(3, 2), Each(group), zeros(4, 2), [1, 1, 2]).Wait(), group => group.AllToAll(zeros(3, 2), Each(group), zeros(3, 2), Each(group)).Wait()),
        ["other-list"] = (group => group.NewGroup([0, 1])?.Dispose(), group => group.NewGroup([0, 2])?.Dispose()),
        ["other-message"] = (group => group.Send(ones(10), 0, tag: 5).Wait(), group => If(group.Rank == 0, () => group.Recv(zeros(11), 1, tag: 5).Wait())),
        ["other-reducer"] = (group => group.CreateGradientChannel("a", 8), group => group.CreateGradientChannel("b", 8)),
        ["does-not-come"] = (_ => { }, group => group.AllReduce(ones(10)).Wait(Short)),
        ["does-not-come-to-many"] = (_ => { }, group => group.AllReduce(ones(100_000)).Wait(Short)),
        ["does-not-send"] = (_ => { }, group => group.Recv(ones(10), 1, tag: 2).Wait(Short)),
        ["monitored"] = (_ => { }, group => group.MonitoredBarrier(Short, waitAllRanks: true)),
        ["aborts"] = (group => group.Abort("disk full: größer"), group => group.AllReduce(ones(10)).Wait()),
        ["aborts-at-length"] = (group => group.Abort(new string('x', 100_000)), group => group.Barrier().Wait()),
        ["aborts-reducer"] = (group => group.CreateGradientChannel("a", 8).Abort("no"), group => group.CreateGradientChannel("a", 8).Exchange([1], new byte[group.Size])),
        ["leaves"] = (group => group.Dispose(), group => group.AllReduce(ones(10)).Wait()),
        ["leaves-many"] = (group => group.Dispose(), group => group.AllReduce(ones(1_000_000)).Wait()),
        ["leaves-receiver"] = (group => group.Dispose(), group => group.Recv(ones(10), 1).Wait()),
        ["calls-after-abort"] = (group => { group.Abort("enough"); group.Barrier().Wait(); }, group => If(group.Rank == 0, () => group.Barrier().Wait())),
    };

    /// <summary>Every case that all back ends have to pass, on whole groups; with <c>pieces</c>, large tensors in pieces of so many bytes.</summary>
    public static void Cases(Settings settings)
    {
        var start = Stopwatch.GetTimestamp();
        var (rank, size) = (World("RANK"), World("SIZE"));
        var failures = new List<string>();
        var pieces = settings.Number("pieces", MpiChannel.DefaultPieceBytes);
        foreach (var (name, body) in CollectiveCases.All)
        {
            using var group = pieces == MpiChannel.DefaultPieceBytes
                ? ProcessGroup.Create("mpi", new HashStore(), rank, size, Limit)
                : MpiProcessGroup.Join(rank, size, Limit, pieces);
            try
            {
                body(group);
            }
            catch (Exception e)
            {
                failures.Add($"{name}: {e}");
                group.Abort($"case '{name}' failed: {e.Message}");
            }
        }

        Report.Send(new { rank, cases = CollectiveCases.All.Count, failures, seconds = Stopwatch.GetElapsedTime(start).TotalSeconds });
    }

    /// <summary>One after the other, on groups of their own, of three ranks: what each rank got to see.</summary>
    public static void Failure(Settings settings)
    {
        var (rank, size) = (World("RANK"), World("SIZE"));
        var seen = new Dictionary<string, string?>();
        foreach (var (name, (one, others)) in Failures)
        {
            using var group = ProcessGroup.Create("mpi", new HashStore(), rank, size, Limit);
            group.Barrier().Wait();
            try
            {
                (rank == 1 ? one : others)(group);
                seen[name] = null;
            }
            catch (DistributedException e)
            {
                seen[name] = $"{e.GetType().Name}: {e.Message}";
            }

            if (!name.StartsWith("leaves", StringComparison.Ordinal))
            {
                using var meeting = ProcessGroup.Create("mpi", new HashStore(), rank, size, Limit);
                meeting.Barrier().Wait(); // nobody leaves before all have seen what happens
            }
        }

        Report.Send(new { rank, seen });
    }

    /// <summary>More elements than an int counts, of one byte.</summary>
    public static void Large(Settings settings)
    {
        var (rank, size) = (World("RANK"), World("SIZE"));
        using var group = ProcessGroup.Create("mpi", new HashStore(), rank, size, Limit);
        var count = (1L << 31) + 5;
        using var tensor = zeros(count, ScalarType.Byte);
        if (rank == 0)
        {
            using var end = tensor.narrow(0, count - 3, 3);
            end.fill_(7);
        }

        group.Broadcast(tensor, 0).Wait();
        using var last = tensor.narrow(0, count - 4, 4);
        Report.Send(new { rank, last = last.data<byte>().ToArray().Select(value => (int)value) });
        group.Barrier().Wait();
    }

    /// <summary>Joins as <c>rank</c> of <c>size</c>, or as who it is.</summary>
    public static void Join(Settings settings)
    {
        if (settings.Text("absent") == World("RANK").ToString(CultureInfo.InvariantCulture))
        {
            MpiRuntime.Start(World("RANK"), World("SIZE"), Limit);
            return;
        }

        Report.Outcome(World("RANK"), () =>
        {
            using var group = ProcessGroup.Create("mpi", new HashStore(), settings.Number("rank", World("RANK")), settings.Number("size", World("SIZE")), TimeSpan.FromSeconds(settings.Real("timeout", 25)));
            group.Barrier().Wait();
        });
    }

    private static void If(bool condition, Action action)
    {
        if (condition)
            action();
    }

    private static long[] Each(ProcessGroup group) => [.. Enumerable.Repeat(1L, group.Size)];

    /// <summary>What mpirun of Open MPI, or of MPICH, says of this process; alone where there is none.</summary>
    private static int World(string what) => int.Parse(
        Environment.GetEnvironmentVariable($"OMPI_COMM_WORLD_{what}") ?? Environment.GetEnvironmentVariable($"PMI_{what}") ?? (what == "SIZE" ? "1" : "0"), CultureInfo.InvariantCulture);
}
