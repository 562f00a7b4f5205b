namespace FabricSharp.Data;

/// <summary>A data set threw when a loader asked it for an item. <see cref="Exception.InnerException"/> is what it threw.</summary>
public sealed class DatasetItemException : Exception
{
    internal DatasetItemException(long index, Exception cause)
        : base($"Item {index} of the data set could not be read: {cause.GetType().Name}: {cause.Message}", cause) => Index = index;

    /// <summary>The item's number, as the sampler gave it.</summary>
    public long Index { get; }
}
