using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.Cases;

/// <summary>
/// What every back end promises of healthy groups, by name. A case is called on every rank with that rank's group, of any size from 2; it may
/// run in threads of one process or in processes. Each leaves the group usable.
/// </summary>
internal static class CollectiveCases
{
    public static IReadOnlyDictionary<string, Action<ProcessGroup>> All { get; } = new Dictionary<string, Action<ProcessGroup>>
    {
        ["every operation, one after the other"] = group => Program(group, seed: 1, overlap: false),
        ["every operation, under way together"] = group => Program(group, seed: 2, overlap: true),
        ["shapes"] = Shapes,
        ["own part of the other tensor"] = OwnParts,
        ["messages in any order of tags"] = Tags,
        ["many messages under way"] = ManyMessages,
        ["messages and collectives together"] = MessagesBesideCollectives,
        ["monitored barrier"] = group => group.MonitoredBarrier(),
        ["objects"] = Objects,
        ["groups of some ranks"] = Subgroups,
        ["groups of groups"] = NestedGroups,
        ["disjoint groups at the same time"] = DisjointGroups,
        ["wrong arguments"] = WrongArguments,
    };

    public static void Run(ProcessGroup group, IReadOnlyList<CollectiveCall> calls, bool overlap)
    {
        using var scope = NewDisposeScope();
        var started = new List<(Work[] Works, Action Check)>();
        for (var i = 0; i < calls.Count; i++)
        {
            var call = calls[i].Start(group, i);
            if (overlap)
            {
                started.Add(call);
                continue;
            }

            Array.ForEach(call.Works, work => work.Wait());
            call.Check();
        }

        started.Reverse(); // waiting in another order than that of the calls must do
        foreach (var (works, check) in started)
        {
            Array.ForEach(works, work => work.Wait());
            check();
        }
    }

    private static void Program(ProcessGroup group, int seed, bool overlap)
    {
        var random = new Random(seed);
        var each = Enum.GetValues<CollectiveCall.Operation>().SelectMany(kind => new[] { 3, 40_000 }, (kind, count) => CollectiveCall.Of(kind, random.Next(100), random.Next(100), count, random.Next(2) == 0));
        Run(group, [.. each.Concat(Enumerable.Range(0, 20).Select(_ => CollectiveCall.Random(random)))], overlap);
    }

    private static void Shapes(ProcessGroup group)
    {
        using var scope = NewDisposeScope();
        var number = tensor(group.Rank + 1.0);
        group.Reduce(number, 0).Wait();
        CollectiveCheck.Same(group.Rank == 0 ? group.Size * (group.Size + 1) / 2.0 : group.Rank + 1.0, number.item<double>(), "a number without dimensions, reduced");
        var matrix = arange(6, ScalarType.Float32).reshape(2, 3).t() + 10 * group.Rank;
        var stacked = zeros(group.Size, 3, 2);
        group.AllGather(stacked, matrix).Wait();
        CollectiveCheck.SameBits(arange(6, ScalarType.Float32).reshape(2, 3).t() + 10, stacked[1], "a transposed matrix, gathered by index");
        var row = zeros(3, 2);
        group.Scatter(row, group.Rank == 1 ? stacked.transpose(0, 0) : null, 1).Wait();
        CollectiveCheck.SameBits(stacked[group.Rank], row, "a matrix for each rank");
        var rows = zeros(2L * group.Size, 5);
        group.AllToAll(rows, full([2L * group.Size, 5], group.Rank, ScalarType.Float32)).Wait();
        CollectiveCheck.SameBits(arange(group.Size, ScalarType.Float32).repeat_interleave(10), rows.flatten(), "rows for each rank");
        group.Broadcast(zeros(0, 7), 0).Wait();
        group.AllToAll(zeros(0, 7), zeros(0, 7)).Wait();
    }

    private static void OwnParts(ProcessGroup group)
    {
        using var scope = NewDisposeScope();
        var whole = zeros(group.Size, 30_000);
        whole[group.Rank].fill_(group.Rank + 1);
        group.AllGather(whole, whole[group.Rank]).Wait();
        CollectiveCheck.SameBits((arange(group.Size, ScalarType.Float32) + 1).repeat_interleave(30_000), whole.flatten(), "gathered in place");
        group.ReduceScatter(whole[group.Rank], whole).Wait();
        CollectiveCheck.SameBits(full(30_000, (double)group.Size * (group.Rank + 1), ScalarType.Float32), whole[group.Rank], "reduced in place");
    }

    private static void Tags(ProcessGroup group)
    {
        using var scope = NewDisposeScope();
        if (group.Rank == 0)
        {
            var works = Enumerable.Range(0, 40).Select(i => group.Send(full(i * 1000, i, ScalarType.Int64), 1, tag: i % 3)).ToArray();
            Array.ForEach(works, work => work.Wait());
        }
        else if (group.Rank == 1)
        {
            foreach (var tag in new[] { 2, 0, 1 })
                for (var i = tag; i < 40; i += 3)
                {
                    var received = zeros(i * 1000, ScalarType.Int64);
                    group.Recv(received, 0, tag).Wait();
                    CollectiveCheck.That(received.eq(i).all().item<bool>(), $"message {i} of tag {tag}");
                }
        }

        group.Barrier().Wait();
    }

    private static void ManyMessages(ProcessGroup group)
    {
        using var scope = NewDisposeScope();
        var others = Enumerable.Range(0, group.Size).Where(rank => rank != group.Rank).ToArray();
        var received = others.Select(_ => zeros(200_000)).ToArray();
        var works = others.Select((rank, i) => group.Recv(received[i], rank)).Concat(others.Select(rank => group.Send(full(200_000, group.Rank * 10 + rank, ScalarType.Float32), rank))).ToArray();
        Array.ForEach(works, work => work.Wait());
        for (var i = 0; i < others.Length; i++)
            CollectiveCheck.That(received[i].eq(others[i] * 10 + group.Rank).all().item<bool>(), $"the message of rank {others[i]}");
    }

    private static void MessagesBesideCollectives(ProcessGroup group)
    {
        using var scope = NewDisposeScope();
        for (var i = 0; i < 10; i++)
        {
            var sum = full(20_000, 1, ScalarType.Float32);
            var message = full(20_000, i, ScalarType.Float32);
            var works = new List<Work>();
            if (group.Rank == i % 2)
                works.Add(group.Send(message, 1 - i % 2));
            works.Add(group.AllReduce(sum));
            if (group.Rank == 1 - i % 2)
                works.Add(group.Recv(message.zero_(), i % 2));
            if (i % 3 == 0)
                works.Reverse();
            works.ForEach(work => work.Wait());
            CollectiveCheck.That(sum.eq(group.Size).all().item<bool>() && message.eq(i).all().item<bool>(), $"round {i}");
        }
    }

    private static void Objects(ProcessGroup group)
    {
        var last = group.Size - 1;
        CollectiveCheck.Same($"von Rang {last}: größer", group.BroadcastObject($"von Rang {group.Rank}: größer", last), "a text");
        CollectiveCheck.Same((1, double.PositiveInfinity), group.BroadcastObject((group.Rank, double.PositiveInfinity), 1), "a tuple");
        CollectiveCheck.Same(null, group.BroadcastObject<string?>(group.Rank == 0 ? null : "x", 0), "nothing");
        CollectiveCheck.SameItems(Enumerable.Range(0, group.Size).Select(rank => new string('x', 100 * rank)), group.AllGatherObject(new string('x', 100 * group.Rank)), "texts of different lengths");
        CollectiveCheck.SameItems(Enumerable.Range(0, group.Size).Select(rank => rank), group.AllGatherObject(new Dictionary<string, int[]> { ["r"] = [group.Rank] }).Select(each => each["r"][0]), "dictionaries");
        var numbers = group.GatherObject(group.Rank * 2, 1);
        CollectiveCheck.Same(group.Rank == 1, numbers is not null, "who gets the numbers");
        if (numbers is not null)
            CollectiveCheck.SameItems(Enumerable.Range(0, group.Size).Select(rank => 2 * rank), numbers, "numbers on rank 1");
        var failure = CollectiveCheck.Throws<DistributedException>(() => group.AllGatherObject<object>(group.Rank == 0 ? new Action(group.Dispose) : "fine"));
        CollectiveCheck.That(failure.Message.Contains("rank 0 could not write its value", StringComparison.Ordinal), failure.Message);
    }

    private static void Subgroups(ProcessGroup group)
    {
        using var scope = NewDisposeScope();
        int[] reversed = [.. Enumerable.Range(0, group.Size).Reverse()];
        using var all = group.NewGroup(reversed)!;
        CollectiveCheck.Same((group.Size - 1 - group.Rank, group.Size, group.Backend), (all.Rank, all.Size, all.Backend), "the group of all, turned round");
        CollectiveCheck.SameItems(reversed, all.GlobalRanks, "its ranks");
        var ranks = zeros(group.Size, ScalarType.Int64);
        all.AllGather(ranks, tensor(new long[] { group.Rank })).Wait();
        CollectiveCheck.SameItems(reversed.Select(rank => (long)rank), ranks.data<long>().ToArray(), "their order");
        using var first = group.NewGroup([0]);
        CollectiveCheck.Same(group.Rank == 0, first is not null, "who is in the group of rank 0");
        first?.AllReduce(ones(3)).Wait();
        group.Barrier().Wait();
    }

    private static void NestedGroups(ProcessGroup group)
    {
        using var scope = NewDisposeScope();
        int[] tail = [.. Enumerable.Range(1, group.Size - 1)];
        using var outer = group.NewGroup(tail, TimeSpan.FromSeconds(11));
        if (outer is not null)
        {
            CollectiveCheck.Same(TimeSpan.FromSeconds(11), outer.Timeout, "its limit");
            using var inner = outer.NewGroup([outer.Size - 1]);
            CollectiveCheck.Same(outer.Rank == outer.Size - 1, inner is not null, "who is in the innermost group");
            if (inner is not null)
                CollectiveCheck.SameItems([group.Size - 1], inner.GlobalRanks, "the outermost number of its member");
            var sum = tensor((double)group.Rank);
            outer.AllReduce(sum).Wait();
            CollectiveCheck.Same(tail.Sum(), sum.item<double>(), "the sum in the outer group");
            if (outer.Size > 1)
                Run(outer, [.. Enumerable.Range(0, 5).Select(_ => CollectiveCall.Of(CollectiveCall.Operation.Ring, 0, 1, 100, false))], overlap: true);
        }

        group.Barrier().Wait();
    }

    private static void DisjointGroups(ProcessGroup group)
    {
        using var scope = NewDisposeScope();
        int[] low = [.. Enumerable.Range(0, group.Size / 2)], high = [.. Enumerable.Range(group.Size / 2, group.Size - group.Size / 2)];
        using var one = group.NewGroup(low);
        using var other = group.NewGroup(high);
        var mine = (one ?? other)!;
        var (global, local) = (full(50_000, 1, ScalarType.Float32), full(50_000, group.Rank, ScalarType.Float32));
        for (var i = 0; i < 20 + group.Rank; i++) // not in step with the other group's ranks
            if (i < 20)
                mine.AllReduce(full(100, 1, ScalarType.Float32)).Wait();
        var works = new[] { group.AllReduce(global), mine.AllReduce(local) };
        works[group.Rank % 2].Wait(); // some wait in the whole group first, some in their own
        works[1 - group.Rank % 2].Wait();
        CollectiveCheck.That(global.eq(group.Size).all().item<bool>(), "the sum over all");
        CollectiveCheck.That(local.eq(mine.GlobalRanks.Sum()).all().item<bool>(), "the sum over some");
        group.Barrier().Wait();
    }

    /// <summary>They are refused before anything is sent.</summary>
    private static void WrongArguments(ProcessGroup group)
    {
        using var scope = NewDisposeScope();
        var (size, three) = (group.Size, ones(3));
        (string Parameter, string Text, Action Call)[] wrong =
        [
            ("root", $"0 to {size - 1}", () => group.Reduce(three, size)),
            ("root", $"0 to {size - 1}", () => group.Gather(null, three, -1)),
            ("destination", $"0 to {size - 1}", () => group.Send(three, size)),
            ("source", "this rank itself", () => group.Recv(three, group.Rank)),
            ("tag", "0 or more", () => group.Send(three, (group.Rank + 1) % size, -1)),
            ("output", $"must have {3 * size} elements", () => group.AllGather(zeros(3 * size + 1), three)),
            ("output", "contiguous", () => group.Scatter(zeros(4, 6).t(), null, (group.Rank + 1) % size)),
            ("input", "must have", () => group.ReduceScatter(zeros(3), ones(3 * size - 1))),
            ("input", "Float64", () => group.ReduceScatter(zeros(3), ones(3 * size, ScalarType.Float64))),
            ("input", $"multiple of the number of ranks, {size}", () => group.AllToAll(zeros(size + 1), ones(size + 1))),
            ("inputSplits", $"must have {size} numbers", () => group.AllToAll(zeros(size), [.. Enumerable.Repeat(1L, size)], ones(size), [size])),
            ("output", "rows", () => group.AllToAll(zeros(size, 2), [.. Enumerable.Repeat(1L, size)], ones(size, 3), [.. Enumerable.Repeat(1L, size)])),
            ("", "Average and PreMulSum floating-point", () => group.Reduce(ones(3, ScalarType.Int32), 0, ReduceOp.Average)),
            ("", "the bitwise ones integers and booleans", () => group.AllReduce(three, ReduceOp.BitwiseAnd)),
            ("", "view_as_real", () => group.AllReduce(zeros(3, ScalarType.ComplexFloat32))),
            ("", "is not defined for Bool", () => group.AllReduce(zeros(3, ScalarType.Bool), ReduceOp.PreMulSum(2))),
            ("", "overlap", () => group.AllToAll(three, three.narrow(0, 0, 3))),
            ("ranks", "is empty", () => group.NewGroup([])),
            ("ranks", "twice", () => group.NewGroup([0, 0])),
            ("ranks", $"0 to {size - 1}", () => group.NewGroup([size])),
        ];
        foreach (var (parameter, text, call) in wrong.Where(each => size == 3 || !each.Text.Contains("overlap", StringComparison.Ordinal)))
        {
            var e = CollectiveCheck.Throws<ArgumentException>(call);
            CollectiveCheck.Same(parameter, e.ParamName ?? "", e.Message);
            CollectiveCheck.That(e.Message.Contains(text, StringComparison.Ordinal) && e.Message.StartsWith($"Rank {group.Rank}: ", StringComparison.Ordinal), $"'{text}' in: {e.Message}");
        }

        group.Barrier().Wait();
    }
}
