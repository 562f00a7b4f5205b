using FabricSharp.Collectives;

namespace FabricSharp.DataParallel;

/// <summary>
/// What is averaged at once: neighbours in a bucket's memory, or one gradient of the pool. Its life in a backward pass: <i>reset</i>, each
/// parameter is <i>marked ready</i>, the piece is <i>launched</i>, its reductions are <i>waited</i> for.
/// </summary>
internal sealed class GradientPiece
{
    private readonly List<Work> _reductions = [];

    public GradientPiece(ParameterSlot[] slots)
    {
        Slots = slots;
        foreach (var slot in slots)
            slot.Piece = this;
    }

    public ParameterSlot[] Slots { get; }

    /// <summary>The place in the order of launches.</summary>
    public int Number { get; set; }

    /// <summary>Parameters whose gradient is still to come in this pass.</summary>
    public int Pending { get; private set; }

    /// <summary>Whether what was launched is averaged. Does not wait.</summary>
    public bool IsDone => _reductions.TrueForAll(work => work.IsCompleted);

    public void Reset()
    {
        Pending = Slots.Length;
        _reductions.Clear();
    }

    public void MarkReady() => Pending--;

    /// <summary>Queues the averaging of the whole piece; returns the bytes sent.</summary>
    public long LaunchAll(GradientReduction reduction) => Launch(reduction, 0, Slots.Length);

    /// <summary>Queues the averaging of those slots that <paramref name="isUsed"/>, neighbours together; returns the bytes sent.</summary>
    public long LaunchUsed(GradientReduction reduction, Func<ParameterSlot, bool> isUsed)
    {
        var sent = 0L;
        for (var begin = 0; begin < Slots.Length; begin++)
        {
            if (!isUsed(Slots[begin]))
                continue;
            var end = begin + 1;
            while (end < Slots.Length && isUsed(Slots[end]))
                end++;
            sent += Launch(reduction, begin, end);
            begin = end;
        }

        return sent;
    }

    public void Wait(TimeSpan? timeout)
    {
        foreach (var work in _reductions)
            work.Wait(timeout);
        _reductions.Clear();
    }

    private long Launch(GradientReduction reduction, int begin, int end)
    {
        var first = Slots[begin];
        var last = Slots[end - 1];
        var bytes = first.IsPooled ? first.Bytes : last.Offset + last.Bytes - first.Offset;
        if (!reduction.IsNeeded)
            return 0;
        if (bytes > 0)
            _reductions.Add(first.IsPooled ? reduction.OfPooled(first) : reduction.OfRun(first, bytes));
        return bytes;
    }
}

/// <summary>How the reducer has gradients averaged.</summary>
/// <param name="Channel">Where reductions are queued.</param>
/// <param name="Pool">Where large gradients live.</param>
/// <param name="Scale">What each rank's gradients are multiplied by.</param>
/// <param name="IsNeeded">False with one rank: there is nothing to average with.</param>
internal readonly record struct GradientReduction(GradientChannel Channel, GradientPool? Pool, double Scale, bool IsNeeded)
{
    public Work OfPooled(ParameterSlot slot) =>
        Channel.ReduceInPlace(Pool!, slot.Index, slot.PoolData, slot.ElementCount, slot.Type, Scale);

    public Work OfRun(ParameterSlot first, long bytes) =>
        Channel.Reduce(first.Buffer!, first.Offset, bytes / first.Type.SizeInBytes(), first.Type, Scale);
}
