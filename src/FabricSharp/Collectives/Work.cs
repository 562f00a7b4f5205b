using System.Runtime.CompilerServices;

namespace FabricSharp.Collectives;

/// <summary>
/// A collective operation that was started on this rank. The tensors that were passed must not be touched before it is complete.
/// Members are local and thread-safe.
/// </summary>
public abstract class Work
{
    /// <summary>Whether the operation is over on this rank, well or badly. Does not wait.</summary>
    public abstract bool IsCompleted { get; }

    /// <summary>Why the operation failed; null while it runs and after it ended well.</summary>
    public abstract Exception? Exception { get; }

    /// <summary>Waits until the operation is over; its results are then visible. May be called more than once.</summary>
    /// <param name="timeout">The limit. <value>Default: the group's time-out.</value></param>
    /// <exception cref="DistributedTimeoutException">The limit passed. The group is unusable afterwards.</exception>
    /// <exception cref="DistributedException">The operation failed.</exception>
    public abstract void Wait(TimeSpan? timeout = null);

    /// <summary>Awaits the operation on a thread of the thread pool.</summary>
    public TaskAwaiter GetAwaiter() => AsTask().GetAwaiter();

    private Task AsTask()
    {
        if (!IsCompleted)
            return Task.Run(() => Wait());
        return Exception is { } e ? Task.FromException(e) : Task.CompletedTask;
    }
}
