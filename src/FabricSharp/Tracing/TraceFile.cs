using System.Text.Json.Serialization;

namespace FabricSharp.Tracing;

/// <summary>
/// What one rank recorded, as it lies in its file: JSON. Times are nanoseconds of this rank's clock since its set-up; <see cref="Absent"/> where
/// something did not happen.
/// </summary>
internal sealed record TraceFile
{
    public const string FormatName = "fabricsharp-trace";
    public const int CurrentVersion = 1;
    public const string Suffix = ".trace.json";
    public const long Absent = -1;

    public required string Format { get; init; }

    public required int Version { get; init; }

    /// <summary>The same on all ranks of a run, and on no others.</summary>
    public required string Run { get; init; }

    public required int Rank { get; init; }

    public required int WorldSize { get; init; }

    public required string Backend { get; init; }

    public required DateTime Started { get; init; }

    /// <summary>How this rank's times become rank 0's.</summary>
    public required ClockOffset Clock { get; init; }

    /// <summary>Why the averaging of gradients ended, in one line; null where it ended well.</summary>
    public string? Failure { get; init; }

    public required IReadOnlyList<TracedModel> Models { get; init; }

    public static string NameFor(int rank) => $"rank-{rank}{Suffix}";
}

/// <summary>What is to be added to a rank's times to have them in rank 0's, and how far that can be off.</summary>
internal sealed record ClockOffset(long OffsetNs, long UncertaintyNs);

/// <summary>One model whose gradients are averaged.</summary>
internal sealed record TracedModel
{
    public required string Name { get; init; }

    public required bool FindUnusedParameters { get; init; }

    public required bool StaticGraph { get; init; }

    public required bool GradientHooks { get; init; }

    /// <summary>Buffers that are broadcast before each forward pass.</summary>
    public required int BroadcastBuffers { get; init; }

    public required string? CommunicationHook { get; init; }

    /// <summary>The limit of a bucket in bytes.</summary>
    public required long BucketCapBytes { get; init; }

    public required IReadOnlyList<TracedParameter> Parameters { get; init; }

    /// <summary>The layouts that recorded steps refer to.</summary>
    public IReadOnlyList<TracedLayout> Layouts { get; init; } = [];

    public StepTotals Totals { get; init; } = new();

    /// <summary>By parameter: steps in which this rank had no gradient.</summary>
    public IReadOnlyList<long> UnusedHere { get; init; } = [];

    /// <summary>By parameter: steps in which some rank had no gradient.</summary>
    public IReadOnlyList<long> UnusedSomewhere { get; init; } = [];

    /// <summary>By parameter: steps in which no rank had a gradient.</summary>
    public IReadOnlyList<long> UnusedEverywhere { get; init; } = [];

    /// <summary>The last steps, oldest first.</summary>
    public IReadOnlyList<TracedStep> Steps { get; init; } = [];
}

internal sealed record TracedParameter(string Name, long Bytes);

/// <summary>How the parameters were divided in some steps.</summary>
internal sealed record TracedLayout(int Id, IReadOnlyList<TracedPiece> Pieces);

/// <summary>What is averaged at once: a part of a bucket.</summary>
internal sealed record TracedPiece(int Bucket, IReadOnlyList<int> Parameters, long Bytes);

/// <summary>Sums over all complete steps, also those that are no longer recorded.</summary>
internal sealed record StepTotals
{
    public long Steps { get; init; }

    public long ForwardNs { get; init; }

    public long BuffersNs { get; init; }

    public long BackwardNs { get; init; }

    public long CommunicationNs { get; init; }

    public long ExposedNs { get; init; }

    public long ExchangeNs { get; init; }

    public long BetweenNs { get; init; }

    public long BytesSent { get; init; }

    public long BytesSaved { get; init; }

    /// <summary>Pieces beyond the limit of what is recorded in a step.</summary>
    public long PiecesLeftOut { get; init; }

    /// <summary>Whether this rank used the same parameters in all steps.</summary>
    public bool IsUseConstant { get; init; } = true;
}

/// <summary>One step on one rank.</summary>
/// <param name="Number">From 1, in the order of their ends.</param>
/// <param name="Layout">The <see cref="TracedLayout"/> by its number.</param>
/// <param name="Times">By <see cref="StepMoment"/>.</param>
/// <param name="Pieces">For each piece of the layout, in launch order, four numbers: when it was ready, launched and done, and bytes sent.</param>
/// <param name="UsedHere">A bit for each parameter, little-endian, base64: whether this rank had a gradient; null where the step was not completed.</param>
/// <param name="UsedByAll">The same: whether all ranks had one.</param>
/// <param name="UsedByAny">The same: whether some rank had one.</param>
internal sealed record TracedStep(long Number, int Layout, IReadOnlyList<long> Times, IReadOnlyList<long> Pieces, byte[]? UsedHere, byte[]? UsedByAll, byte[]? UsedByAny)
{
    public const int NumbersPerPiece = 4;

    public long this[StepMoment moment] => Times[(int)moment];

    [JsonIgnore]
    public bool IsComplete => this[StepMoment.End] != TraceFile.Absent;
}

/// <summary>What is noted once a step, in the order in which it happens.</summary>
internal enum StepMoment
{
    ForwardBegin,
    BuffersEnd,
    ForwardEnd,
    BackwardBegin,
    BackwardEnd,
    ExchangeBegin,
    ExchangeEnd,
    WaitBegin,
    WaitEnd,
    End,
}
