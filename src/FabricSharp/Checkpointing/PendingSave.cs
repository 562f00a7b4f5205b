using System.Runtime.CompilerServices;

namespace FabricSharp.Checkpointing;

/// <summary>
/// A save that goes on while training does. Its end is told to every rank by <see cref="Wait"/>, by <c>await</c>, and by the next save or load, which
/// wait for it: whichever comes first throws what went wrong, on every rank.
/// </summary>
public sealed class PendingSave
{
    /// <summary>How long is waited where nothing else is said.</summary>
    internal static readonly TimeSpan DefaultLimit = TimeSpan.FromMinutes(30);

    private readonly Task _writing;
    private readonly Action<PendingSave, TimeSpan> _finish;

    private PendingSave(string path, Task writing, Action<PendingSave, TimeSpan> finish) => (Path, _writing, _finish) = (path, writing, finish);

    /// <summary>The checkpoint's full path.</summary>
    public string Path { get; }

    /// <summary>Whether this rank has nothing to do any more: it has written or failed, or is not the rank that writes. Local.</summary>
    public bool IsCompleted => _writing.IsCompleted;

    /// <summary>Whether a failure or success was told already.</summary>
    internal bool IsFinished { get; set; }

    /// <summary>Returns when the checkpoint is on the disk. Collective.</summary>
    /// <param name="limit">How long rank 0 waits for its disk. <value>Default null: 30 minutes.</value></param>
    /// <exception cref="CheckpointException">Writing failed, or is not done within the limit. What was at the path before is unchanged.</exception>
    public void Wait(TimeSpan? limit = null) => _finish(this, limit ?? DefaultLimit);

    /// <summary>For <c>await</c>, which is <see cref="Wait"/> without holding rank 0's thread. Collective: other ranks wait for rank 0 in it.</summary>
    public PendingSaveAwaiter GetAwaiter() => new(this, _writing.ConfigureAwait(true).GetAwaiter());

    /// <summary>Begins to write copies of the entries on a thread of its own.</summary>
    internal static PendingSave Begin(CheckpointPlace place, IReadOnlyList<SavedEntry> copies, int? keepLast, Action<PendingSave, TimeSpan> finish)
    {
        var writing = Task.Factory.StartNew(() => Write(place, copies, keepLast), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        return new PendingSave(place.Path, writing, finish);
    }

    /// <summary>On a rank that does not write.</summary>
    internal static PendingSave OfOtherRank(CheckpointPlace place, Action<PendingSave, TimeSpan> finish) => new(place.Path, Task.CompletedTask, finish);

    /// <summary>This rank's part of the end; throws what went wrong.</summary>
    internal void FinishLocally(TimeSpan limit)
    {
        if (!_writing.ContinueWith(_ => { }, TaskScheduler.Default).Wait(limit))
            throw new CheckpointException($"The checkpoint '{Path}' was not written within {limit.TotalSeconds:N0} s and is still being written. The disk may hang; wait longer with Wait(limit), or save elsewhere.");
        _writing.GetAwaiter().GetResult();
    }

    private static void Write(CheckpointPlace place, IReadOnlyList<SavedEntry> copies, int? keepLast)
    {
        try
        {
            CheckpointWriter.Write(place, copies, keepLast);
        }
        finally
        {
            DisposeAll(copies);
        }
    }

    internal static void DisposeAll(IEnumerable<SavedEntry> copies)
    {
        foreach (var (_, tensor) in copies.SelectMany(copy => copy.Tensors))
            tensor.Dispose();
    }

    /// <summary>What <c>await</c> uses.</summary>
    public readonly struct PendingSaveAwaiter : ICriticalNotifyCompletion
    {
        private readonly PendingSave _save;
        private readonly ConfiguredTaskAwaitable.ConfiguredTaskAwaiter _writing;

        internal PendingSaveAwaiter(PendingSave save, ConfiguredTaskAwaitable.ConfiguredTaskAwaiter writing) => (_save, _writing) = (save, writing);

        /// <summary>Whether this rank need not give its thread back. Local.</summary>
        public bool IsCompleted => _writing.IsCompleted;

        /// <summary>Tells how it ended. Collective.</summary>
        public void GetResult() => _save.Wait();

        /// <inheritdoc/>
        public void OnCompleted(Action continuation) => _writing.OnCompleted(continuation);

        /// <inheritdoc/>
        public void UnsafeOnCompleted(Action continuation) => _writing.UnsafeOnCompleted(continuation);
    }
}
