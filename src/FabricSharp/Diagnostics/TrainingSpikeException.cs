namespace FabricSharp.Diagnostics;

/// <summary>The loss of some rank jumped or was not finite. Thrown on every rank at the same batch.</summary>
public sealed class TrainingSpikeException : Exception
{
    internal TrainingSpikeException(long batchIndex, string file)
        : base($"Training spike detected in batch {batchIndex}. That batch and the one before it are listed in '{file}': load an earlier checkpoint and leave them out.")
    {
        BatchIndex = batchIndex;
    }

    /// <summary>The batch, as it was numbered by the caller.</summary>
    public long BatchIndex { get; }
}
