namespace FabricSharp.Collectives;

/// <summary>
/// A collective operation, or the rendezvous that precedes it, failed. The message names the rank, the operation and its
/// values, the likely cause and the next step. Once a group has failed it refuses further work with the same cause.
/// </summary>
public class DistributedException : Exception
{
    /// <summary>Creates the exception with its full message.</summary>
    /// <param name="message">What happened, on which rank, with which values, and what to do.</param>
    /// <param name="innerException">The lower-level failure, if there is one.</param>
    public DistributedException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}

/// <summary>A wait for other ranks, or for the store, reached its limit. The message names who is missing and for what.</summary>
public sealed class DistributedTimeoutException : DistributedException
{
    /// <summary>Creates the exception with its full message.</summary>
    /// <param name="message">What was waited for, how long, and who did not come.</param>
    /// <param name="innerException">The lower-level failure, if there is one.</param>
    public DistributedTimeoutException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}

/// <summary>Another rank of the group ended, failed or left while this one depended on it.</summary>
public sealed class PeerFailedException : DistributedException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">Which rank failed, why, and during which operation of this rank.</param>
    /// <param name="failedRank">The rank, within the group, that failed.</param>
    /// <param name="reason">What that rank reported, or how its end was noticed.</param>
    public PeerFailedException(string message, int failedRank, string reason)
        : base(message)
    {
        FailedRank = failedRank;
        Reason = reason;
    }

    /// <summary>The rank, within the group, that failed.</summary>
    public int FailedRank { get; }

    /// <summary>What that rank reported about its failure, or how its end was noticed.</summary>
    public string Reason { get; }
}

/// <summary>
/// The ranks did not call the same collective: another operation, data type, element count, reduction or root. Thrown on
/// every rank; no data was exchanged.
/// </summary>
public sealed class CollectiveMismatchException : DistributedException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">Which rank called what.</param>
    public CollectiveMismatchException(string message)
        : base(message)
    {
    }
}
