using System.Text.Json;

namespace FabricSharp.Tracing;

/// <summary>Reads a rank's file. It is data from outside: everything that later code counts on is checked here.</summary>
internal static class TraceReader
{
    private const long MaxBytes = 512L << 20;
    private const int MaxRanks = 1 << 16, MaxParameters = 1 << 20, MaxNameLength = 4096;

    /// <summary>Ten years: sums and differences of such times cannot overflow.</summary>
    private const long MaxTime = 10L * 366 * 24 * 3600 * 1_000_000_000;

    public static JsonSerializerOptions Json { get; } = new() { PropertyNamingPolicy = JsonNamingPolicy.CamelCase, MaxDepth = 16, RespectNullableAnnotations = true };

    /// <exception cref="InvalidDataException">The file is no trace, or a damaged one.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static TraceFile Read(string path)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        if (stream.Length > MaxBytes)
            throw new InvalidDataException($"'{path}' has {stream.Length} bytes: more than a trace can have.");
        try
        {
            var file = JsonSerializer.Deserialize<TraceFile>(stream, Json) ?? throw new InvalidDataException("it holds null");
            Check(file);
            return file;
        }
        catch (Exception e) when (e is JsonException or InvalidDataException or NotSupportedException)
        {
            throw new InvalidDataException($"'{path}' is no trace of FabricSharp, or is damaged: {e.Message.TrimEnd('.')}. Record the run again with FABRIC_TRACE=FOLDER.", e);
        }
    }

    private static void Check(TraceFile file)
    {
        Require(file.Format == TraceFile.FormatName, $"its format is '{Shortened(file.Format)}', not '{TraceFile.FormatName}'");
        Require(file.Version == TraceFile.CurrentVersion, $"its version is {file.Version}; this program reads {TraceFile.CurrentVersion}");
        Require(file.WorldSize is >= 1 and <= MaxRanks && file.Rank >= 0 && file.Rank < file.WorldSize, $"rank {file.Rank} of {file.WorldSize}");
        Require(Math.Abs(Math.Clamp(file.Clock.OffsetNs, -long.MaxValue, long.MaxValue)) <= MaxTime && file.Clock.UncertaintyNs is >= 0 and <= MaxTime, "its clock offset is out of range");
        Require(file.Run.Length <= 64 && file.Backend.Length <= MaxNameLength, "a name is too long");
        Require(file.Models.Count <= 64, "it has too many models");
        foreach (var model in file.Models)
            Check(model ?? throw new InvalidDataException("a model is null"));
    }

    private static void Check(TracedModel model)
    {
        Require(model.Name.Length <= MaxNameLength, "a name is too long");
        Require(model.Parameters.Count <= MaxParameters, "it has too many parameters");
        Require(model.Parameters.All(p => p is { Name: { Length: <= MaxNameLength }, Bytes: >= 0 and < 1L << 50 }), "a parameter's name or size is out of range");
        foreach (var counts in new[] { model.UnusedHere, model.UnusedSomewhere, model.UnusedEverywhere })
            Require(counts.Count == model.Parameters.Count && counts.All(count => count >= 0 && count <= model.Totals.Steps), "counts of unused parameters do not fit");
        Require(model.Layouts.Select(layout => layout?.Id).Distinct().Count() == model.Layouts.Count, "layouts have the same number");
        foreach (var layout in model.Layouts)
            Check(layout, model.Parameters.Count);
        Check(model.Totals);
        var layouts = model.Layouts.ToDictionary(layout => layout.Id);
        Require(model.Steps.Count <= 1 << 16, "it has too many steps");
        var last = 0L;
        foreach (var step in model.Steps)
        {
            Require(step is not null && step.Number > last, "its steps are not in order");
            last = step!.Number;
            Check(step, layouts, model.Parameters.Count);
        }
    }

    private static void Check(StepTotals totals)
    {
        var values = new[] { totals.Steps, totals.ForwardNs, totals.BuffersNs, totals.BackwardNs, totals.CommunicationNs, totals.ExposedNs, totals.ExchangeNs, totals.BetweenNs, totals.BytesSent, totals.BytesSaved, totals.PiecesLeftOut };
        Require(values.All(value => value is >= 0 and < 1L << 60), "a total is out of range");
    }

    private static void Check(TracedLayout? layout, int parameters)
    {
        Require(layout is not null && layout.Pieces.Count <= MaxParameters, "a layout is missing or too large");
        Require(layout!.Pieces.All(piece => piece is { Bucket: >= 0 and < MaxParameters, Bytes: >= 0 and < 1L << 50 } && piece.Parameters.All(p => p >= 0 && p < parameters)), $"layout {layout.Id} names what is not there");
    }

    private static void Check(TracedStep step, Dictionary<int, TracedLayout> layouts, int parameters)
    {
        Require(layouts.TryGetValue(step.Layout, out var layout), $"step {step.Number} refers to layout {step.Layout}, which is not there");
        Require(step.Times.Count == Enum.GetValues<StepMoment>().Length, $"step {step.Number} has {step.Times.Count} times");
        Require(step.Times.Concat(step.Pieces).All(time => time is >= TraceFile.Absent and < MaxTime), $"step {step.Number} has a time out of range");
        Require(step.Pieces.Count % TracedStep.NumbersPerPiece == 0 && step.Pieces.Count / TracedStep.NumbersPerPiece <= layout!.Pieces.Count, $"step {step.Number} has {step.Pieces.Count} numbers for {layout!.Pieces.Count} pieces");
        foreach (var bits in new[] { step.UsedHere, step.UsedByAll, step.UsedByAny })
            Require(bits is null || bits.Length == (parameters + 7) / 8, $"step {step.Number} has bits for another number of parameters");
        var present = step.Times.Where(time => time != TraceFile.Absent).ToList();
        Require(present.Count > 0 && present.SequenceEqual(present.Order()), $"the times of step {step.Number} are not in order");
    }

    private static void Require(bool condition, string problem)
    {
        if (!condition)
            throw new InvalidDataException(problem);
    }

    private static string Shortened(string text) => new([.. text.Take(40).Select(c => char.IsControl(c) ? '?' : c)]);
}
