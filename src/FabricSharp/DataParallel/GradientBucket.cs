using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// Gradients that belong together by readiness and data type. Small ones share one flat piece of memory, here; large ones live in the reducer's pool.
/// What is averaged at once is a <see cref="GradientPiece"/>: a run of small gradients, or one large one.
/// </summary>
internal sealed class GradientBucket : IDisposable
{
    /// <summary>Gradients start at cache lines, so that vector instructions do not straddle two, unless they have to lie next to each other.</summary>
    private const long CacheLine = 64;

    private readonly GradientBuffer? _buffer;
    private readonly Tensor? _flat;

    /// <summary>Lays the slots out and makes the memory. Collective.</summary>
    /// <param name="slots">All of one data type, in the order in which they are expected to become ready.</param>
    /// <param name="channel">Gives the memory.</param>
    /// <param name="asViews">Whether slots get tensors over their places.</param>
    /// <param name="withoutGaps">Whether gradients follow each other without a gap.</param>
    public GradientBucket(ParameterSlot[] slots, GradientChannel channel, bool asViews, bool withoutGaps = false)
    {
        Slots = slots;
        var alignment = withoutGaps ? 1 : CacheLine;
        var shared = slots.Where(slot => !slot.IsPooled).ToList();
        var bytes = 0L;
        foreach (var slot in shared)
        {
            slot.Offset = bytes;
            bytes += (slot.Bytes + alignment - 1) / alignment * alignment;
        }

        if (shared.Count > 0)
            _buffer = channel.Allocate(Math.Max(bytes, CacheLine));
        shared.ForEach(slot => slot.Buffer = _buffer);
        Pieces = [.. CutIntoPieces(slots)];
        if (!asViews || shared.Count == 0)
            return;
        _flat = _buffer!.AsTensor(Type).DetachFromDisposeScope();
        foreach (var slot in shared)
        {
            slot.View?.Dispose();
            slot.View = _flat.as_strided(slot.Shape, slot.Strides, slot.Offset / Type.SizeInBytes()).DetachFromDisposeScope();
        }
    }

    public ParameterSlot[] Slots { get; }

    public IReadOnlyList<GradientPiece> Pieces { get; }

    /// <summary>Bytes of gradients, without the gaps.</summary>
    public long PayloadBytes => Slots.Sum(slot => slot.Bytes);

    private ScalarType Type => Slots[0].Type;

    /// <summary>The shared memory as a flat tensor of the gradients, for buckets without gaps and with views.</summary>
    public Tensor Payload() => _flat!.narrow(0, 0, PayloadBytes / Type.SizeInBytes());

    public void Dispose()
    {
        _flat?.Dispose();
        _buffer?.Dispose();
    }

    private static IEnumerable<GradientPiece> CutIntoPieces(ParameterSlot[] slots)
    {
        for (int begin = 0, end; begin < slots.Length; begin = end)
        {
            end = begin + 1;
            while (!slots[begin].IsPooled && end < slots.Length && !slots[end].IsPooled)
                end++;
            yield return new GradientPiece(slots[begin..end]);
        }
    }
}
