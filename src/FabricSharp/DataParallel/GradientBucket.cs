using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.DataParallel;

/// <summary>
/// Gradients that travel together: one flat piece of memory. Its life in a backward pass: <i>reset</i>, each parameter is
/// <i>marked ready</i>, the bucket is <i>launched</i>, its reductions are <i>waited</i> for.
/// </summary>
internal sealed class GradientBucket : IDisposable
{
    /// <summary>Gradients start at cache lines, so that vector instructions do not straddle two.</summary>
    private const long Alignment = 64;

    private readonly List<Work> _reductions = [];
    private readonly Tensor? _flat;

    /// <summary>Lays the slots out and makes the memory. Collective.</summary>
    /// <param name="index">Position among the buckets, and in the order of launches.</param>
    /// <param name="slots">All of one data type.</param>
    /// <param name="channel">Gives the memory.</param>
    /// <param name="asViews">Whether slots get tensors over their places.</param>
    public GradientBucket(int index, ParameterSlot[] slots, GradientChannel channel, bool asViews)
    {
        Index = index;
        Slots = slots;
        var bytes = 0L;
        foreach (var slot in slots)
        {
            slot.Bucket = this;
            slot.Offset = bytes;
            bytes += (slot.Bytes + Alignment - 1) / Alignment * Alignment;
        }

        Buffer = channel.Allocate(Math.Max(bytes, Alignment));
        if (!asViews)
            return;
        _flat = Buffer.AsTensor(Type).DetachFromDisposeScope();
        foreach (var slot in slots)
        {
            slot.View?.Dispose();
            slot.View = _flat.as_strided(slot.Shape, slot.Strides, slot.Offset / Type.SizeInBytes()).DetachFromDisposeScope();
        }
    }

    public int Index { get; }

    public ParameterSlot[] Slots { get; }

    public ScalarType Type => Slots[0].Type;

    public GradientBuffer Buffer { get; }

    /// <summary>Parameters whose gradient is still to come in this pass.</summary>
    public int Pending { get; private set; }

    /// <summary>Bytes of gradients, without the gaps.</summary>
    public long PayloadBytes => Slots.Sum(slot => slot.Bytes);

    public void Reset()
    {
        Pending = Slots.Length;
        _reductions.Clear();
    }

    public void MarkReady() => Pending--;

    /// <summary>Queues the averaging of the whole bucket; returns the bytes sent.</summary>
    public long LaunchAll(GradientChannel channel, double scale) => LaunchRun(channel, scale, 0, Slots.Length);

    /// <summary>Queues the averaging of those slots that <paramref name="isUsed"/>, neighbours together; returns the bytes sent.</summary>
    public long LaunchUsed(GradientChannel channel, double scale, Func<ParameterSlot, bool> isUsed)
    {
        var sent = 0L;
        for (var begin = 0; begin < Slots.Length; begin++)
        {
            if (!isUsed(Slots[begin]))
                continue;
            var end = begin + 1;
            while (end < Slots.Length && isUsed(Slots[end]))
                end++;
            sent += LaunchRun(channel, scale, begin, end);
            begin = end;
        }

        return sent;
    }

    public void Wait()
    {
        foreach (var reduction in _reductions)
            reduction.Wait();
        _reductions.Clear();
    }

    public void Dispose()
    {
        _flat?.Dispose();
        Buffer.Dispose();
    }

    private long LaunchRun(GradientChannel channel, double scale, int begin, int end)
    {
        var first = Slots[begin];
        var last = Slots[end - 1];
        var bytes = last.Offset + last.Bytes - first.Offset;
        if (bytes > 0)
            _reductions.Add(channel.Reduce(Buffer, first.Offset, bytes / Type.SizeInBytes(), Type, scale));
        return bytes;
    }
}
