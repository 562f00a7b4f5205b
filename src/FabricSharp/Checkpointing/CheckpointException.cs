namespace FabricSharp.Checkpointing;

/// <summary>
/// A checkpoint could not be written, or it is missing, truncated, corrupt or does not fit what it is loaded into. The message names the
/// file and the reason. Nothing was changed: a failed save leaves the old checkpoint, a failed check before loading leaves all objects.
/// </summary>
public sealed class CheckpointException : Exception
{
    /// <summary>Creates the exception with its full message.</summary>
    /// <param name="message">Which file, what is wrong with it, and what to do.</param>
    /// <param name="innerException">The lower-level failure, if there is one.</param>
    public CheckpointException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}
