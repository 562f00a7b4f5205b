using System.Collections;
using FabricSharp.Tracing;

namespace FabricSharp.DataParallel;

/// <summary>What the reducer tells the time line of its steps, where one is recorded.</summary>
internal sealed partial class GradientReducer
{
    /// <summary>Null where nothing is recorded.</summary>
    private readonly StepTrace? _trace;

    private Func<int, bool>? _isPieceDone;

    /// <summary>Collective where something is recorded: the ranks' clocks are compared.</summary>
    private StepTrace? BeginTrace() => _options.TraceFolder is not { } folder ? null
        : TraceRecorder.For(_group, folder, (mine, all) => _channel.Exchange(mine, all, _options.Timeout)).Begin(new TracedModel
        {
            Name = ModuleName,
            FindUnusedParameters = _options.FindUnusedParameters,
            StaticGraph = _options.StaticGraph,
            GradientHooks = _usesHooks,
            BroadcastBuffers = _options.BroadcastBuffers && _group.Size > 1 ? _buffers.Count : 0,
            CommunicationHook = _hook?.Name,
            BucketCapBytes = _options.BucketBytes,
            Parameters = [.. _slots.Select(slot => new TracedParameter(slot.Name, slot.Bytes))],
        });

    private IEnumerable<TracedPiece> TracedPieces() => _buckets.SelectMany((bucket, number) =>
        bucket.Pieces.Select(piece => new TracedPiece(number, Array.ConvertAll(piece.Slots, slot => slot.Index), piece.Slots.Sum(slot => slot.Bytes))));

    private void LookForDonePieces() => _trace!.Look(_launched, _isPieceDone ??= piece => _pieces[piece].IsDone);

    private void NoteUse(BitArray here, BitArray byAll, BitArray byAny)
    {
        _unused.Add(here, byAll, byAny);
        _trace?.Used(here, byAll, byAny);
    }
}
