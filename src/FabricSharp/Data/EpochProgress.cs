namespace FabricSharp.Data;

/// <summary>How far an enumeration of a loader has come.</summary>
/// <param name="epoch">Its number.</param>
/// <param name="batches">The batches that lie before its first one, when it goes on in the middle of an epoch.</param>
internal sealed class EpochProgress(int epoch, long batches)
{
    public int Epoch => epoch;

    /// <summary>The batches that were handed out, those before a resumption included.</summary>
    public long Batches { get; private set; } = batches;

    /// <summary>Whether it came to its end or was left: then the next enumeration is the next epoch.</summary>
    public bool HasEnded { get; private set; }

    public void Advance(bool toABatch)
    {
        if (toABatch)
            Batches++;
        else
            HasEnded = true;
    }

    public void End() => HasEnded = true;
}
