using FabricSharp.Cli.Report;
using FabricSharp.Tracing;

namespace FabricSharp.Tests.Report;

/// <summary>A run as its ranks would have recorded it, with times that a test says. Steps begin every <see cref="Period"/>.</summary>
internal sealed record ConstructedRun
{
    public const long Millisecond = 1_000_000;

    public int Ranks { get; init; } = 2;

    public int Steps { get; init; } = 120;

    public string Name { get; init; } = "Net";

    public IReadOnlyList<string> Parameters { get; init; } = ["trunk.weight", "branch.weight", "head.weight"];

    public bool FindUnused { get; init; }

    public bool Hooks { get; init; } = true;

    public string? Hook { get; init; }

    public int Buffers { get; init; }

    public long Period { get; init; } = 20 * Millisecond;

    public long BuffersNs { get; init; }

    public long ExchangeNs { get; init; } = 20_000;

    /// <summary>What follows the backward pass, the exchange included.</summary>
    public long ExposedNs { get; init; } = 500_000;

    /// <summary>By step and rank: how much longer its backward pass takes.</summary>
    public Func<int, int, long> Late { get; init; } = (_, _) => 0;

    /// <summary>By step, rank and parameter.</summary>
    public Func<int, int, int, bool> Uses { get; init; } = (_, _, _) => true;

    /// <summary>Sizes of the buckets' pieces.</summary>
    public IReadOnlyList<long> Pieces { get; init; } = [1 << 20, 1 << 20, 1 << 20, 1 << 20];

    public long UncertaintyNs { get; init; }

    public string? Failure { get; init; }

    public static RecordedRun Make() => new ConstructedRun().Record();

    public RecordedRun Record() => RecordedRun.Of("folder", [.. Enumerable.Range(0, Ranks).Select(File)]);

    public ModelTimeline Timeline() => ModelTimeline.Of(Record())[0];

    public TraceFile File(int rank) => new()
    {
        Format = TraceFile.FormatName,
        Version = TraceFile.CurrentVersion,
        Run = "abc",
        Rank = rank,
        WorldSize = Ranks,
        Backend = "shm",
        Started = new DateTime(2026, 1, 2, 3, 4, 5, DateTimeKind.Utc),
        Clock = new ClockOffset(rank * -1000, rank == 0 ? 0 : UncertaintyNs),
        Failure = Failure,
        Models = [Model(rank)],
    };

    private TracedModel Model(int rank)
    {
        bool Any(int step, int parameter) => Enumerable.Range(0, Ranks).Any(one => Uses(step, one, parameter));
        bool All(int step, int parameter) => Enumerable.Range(0, Ranks).All(one => Uses(step, one, parameter));
        long[] Count(Func<int, int, bool> isUsed) => [.. Parameters.Select((_, i) => (long)Enumerable.Range(0, Steps).Count(step => !isUsed(step, i)))];
        byte[] Bits(int step, Func<int, int, bool> isUsed)
        {
            var bytes = new byte[(Parameters.Count + 7) / 8];
            new System.Collections.BitArray([.. Parameters.Select((_, i) => isUsed(step, i))]).CopyTo(bytes, 0);
            return bytes;
        }

        return new TracedModel
        {
            Name = Name,
            FindUnusedParameters = FindUnused,
            StaticGraph = false,
            GradientHooks = Hooks,
            BroadcastBuffers = Buffers,
            CommunicationHook = Hook,
            BucketCapBytes = 25 << 20,
            Parameters = [.. Parameters.Select(name => new TracedParameter(name, 1 << 20))],
            Layouts = [new TracedLayout(0, [.. Pieces.Select((bytes, i) => new TracedPiece(i, [i % Parameters.Count], bytes))])],
            Totals = new StepTotals { Steps = Steps, BytesSent = Steps * Pieces.Sum(), BytesSaved = 1 << 20, IsUseConstant = Enumerable.Range(0, Steps).All(step => Enumerable.Range(0, Parameters.Count).All(i => Uses(step, rank, i) == Uses(0, rank, i))) },
            UnusedHere = Count((step, i) => Uses(step, rank, i)),
            UnusedSomewhere = Count(All),
            UnusedEverywhere = Count(Any),
            Steps = [.. Enumerable.Range(0, Steps).Select(step => Step(step, rank, Bits(step, (s, i) => Uses(s, rank, i)), Bits(step, All), Bits(step, Any)))],
        };
    }

    /// <summary>Forward 5 ms, backward 10 ms; all ranks end together, when the last has ended its backward pass.</summary>
    private TracedStep Step(int step, int rank, byte[] here, byte[] all, byte[] any)
    {
        var begin = step * Period + rank * 1000; // this rank's clock is 1000 ns ahead
        var forwardEnd = begin + BuffersNs + 5 * Millisecond;
        var backwardEnd = forwardEnd + 10 * Millisecond + Late(step, rank);
        var lastBackwardEnd = forwardEnd + 10 * Millisecond + Enumerable.Range(0, Ranks).Max(one => Late(step, one));
        var end = lastBackwardEnd + ExposedNs;
        var pieces = Pieces.SelectMany((bytes, i) => new[] { forwardEnd + (i + 1) * Millisecond, forwardEnd + (i + 1) * Millisecond + 1000, i == Pieces.Count - 1 ? end - 1000 : forwardEnd + (i + 2) * Millisecond, bytes });
        return new TracedStep(
            step + 1,
            0,
            [begin, Buffers > 0 ? begin + BuffersNs : TraceFile.Absent, forwardEnd, forwardEnd, backwardEnd, backwardEnd, Math.Max(backwardEnd, lastBackwardEnd - ExchangeNs / 2) + ExchangeNs, end - 2000, end - 1000, end],
            [.. pieces],
            here,
            all,
            any);
    }
}
