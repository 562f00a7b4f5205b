using System.Text.Json;
using FabricSharp.Tracing;

namespace FabricSharp.Cli.Report;

/// <summary>
/// The trace-event format that chrome://tracing and ui.perfetto.dev read: a process for each rank; in it a thread for what the rank computes and as
/// many as are needed for what is communicated, for slices of one thread may nest but not cross. Times in microseconds from the first event.
/// </summary>
internal static class ChromeTrace
{
    private const int LanesPerModel = 1000;

    public static void Write(Stream stream, IReadOnlyList<ModelTimeline> models)
    {
        var zero = models.SelectMany(model => model.Steps.Select(step => step.Begin).Concat(model.Unfinished.Select(step => step.Begin))).DefaultIfEmpty(0).Min();
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = false });
        json.WriteStartObject();
        json.WriteString("displayTimeUnit", "ms");
        json.WriteStartArray("traceEvents");
        foreach (var rank in models[0].Ranks)
            WriteName(json, "process_name", rank.Rank, null, $"rank {rank.Rank}");
        for (var i = 0; i < models.Count; i++)
            foreach (var rank in models[i].Ranks)
                WriteRank(json, models[i], rank.Rank, i * LanesPerModel, zero);
        json.WriteEndArray();
        json.WriteStartObject("otherData");
        json.WriteString("format", "FabricSharp");
        json.WriteString("run", models[0].Ranks[0].Run);
        json.WriteNumber("clock_uncertainty_us", models[0].ClockUncertainty / 1e3);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteRank(Utf8JsonWriter json, ModelTimeline model, int rank, int firstLane, long zero)
    {
        var steps = model.Steps.Select(step => step.Ranks.Single(one => one.Rank == rank)).Concat(model.Unfinished.Where(step => step.Rank == rank)).ToList();
        var slices = steps.SelectMany(step => Computing(step)).ToList();
        WriteName(json, "thread_name", rank, firstLane, $"{model.Model.Name}: computing");
        WriteLane(json, rank, firstLane, slices, zero);
        var lanes = LaneAssignment.Assign(steps.SelectMany(step => Communicating(model, step)).OrderBy(slice => slice.Begin).ToList(), slice => (slice.Begin, slice.End));
        for (var lane = 0; lane < lanes.Count; lane++)
        {
            WriteName(json, "thread_name", rank, firstLane + 1 + lane, $"{model.Model.Name}: averaging {lane + 1}");
            WriteLane(json, rank, firstLane + 1 + lane, lanes[lane], zero);
        }
    }

    private static IEnumerable<Slice> Computing(RankStep step)
    {
        var parts = new (string Name, StepMoment Begin, StepMoment End)[]
        {
            ("forward", StepMoment.ForwardBegin, StepMoment.ForwardEnd), ("broadcast buffers", StepMoment.ForwardBegin, StepMoment.BuffersEnd),
            ("backward", StepMoment.BackwardBegin, StepMoment.BackwardEnd), ("finish", StepMoment.BackwardEnd, StepMoment.End),
            ("control exchange", StepMoment.ExchangeBegin, StepMoment.ExchangeEnd), ("wait", StepMoment.WaitBegin, StepMoment.WaitEnd),
        };
        foreach (var (name, begin, end) in parts)
            if (step[begin] is { } from && step[end] is { } to)
                yield return new Slice(name, from, to, step.Number, null, null);
    }

    private static IEnumerable<Slice> Communicating(ModelTimeline model, RankStep step)
    {
        var pieces = model.LayoutOf(step).Pieces;
        foreach (var piece in step.Pieces)
            if (piece is { Launched: { } from, Done: { } to } && to >= from)
                yield return new Slice($"bucket {pieces[piece.Number].Bucket}, piece {piece.Number}", from, to, step.Number, piece.Bytes, from - (piece.Ready ?? from));
    }

    /// <summary>Longer slices first where several begin at once: they enclose the others.</summary>
    private static void WriteLane(Utf8JsonWriter json, int rank, int lane, IEnumerable<Slice> slices, long zero)
    {
        foreach (var slice in slices.OrderBy(slice => slice.Begin).ThenByDescending(slice => slice.End))
        {
            json.WriteStartObject();
            json.WriteString("name", slice.Name);
            json.WriteString("cat", slice.Bytes is null ? "compute" : "communication");
            json.WriteString("ph", "X");
            json.WriteNumber("ts", (slice.Begin - zero) / 1e3);
            json.WriteNumber("dur", (slice.End - slice.Begin) / 1e3);
            json.WriteNumber("pid", rank);
            json.WriteNumber("tid", lane);
            json.WriteStartObject("args");
            json.WriteNumber("step", slice.Step);
            if (slice.Bytes is { } bytes)
                json.WriteNumber("bytes", bytes);
            if (slice.Queued is { } queued)
                json.WriteNumber("ready_before_launch_us", queued / 1e3);
            json.WriteEndObject();
            json.WriteEndObject();
        }
    }

    private static void WriteName(Utf8JsonWriter json, string kind, int rank, int? lane, string name)
    {
        json.WriteStartObject();
        json.WriteString("name", kind);
        json.WriteString("ph", "M");
        json.WriteNumber("pid", rank);
        if (lane is { } tid)
            json.WriteNumber("tid", tid);
        json.WriteStartObject("args");
        json.WriteString("name", name);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private sealed record Slice(string Name, long Begin, long End, long Step, long? Bytes, long? Queued);
}
