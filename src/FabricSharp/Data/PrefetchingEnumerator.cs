using System.Collections;
using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using static TorchSharp.torch;

namespace FabricSharp.Data;

/// <summary>Batches that a thread of its own makes ahead of their use, in order.</summary>
internal sealed class PrefetchingEnumerator<T, S> : IEnumerator<S>
{
    private readonly BatchEnumerator<T, S> _source;
    private readonly bool _disposesBatches;
    private readonly EpochProgress _progress;
    private readonly BlockingCollection<Ready> _ready = [];

    /// <summary>Room for batches that are made or being made.</summary>
    private readonly SemaphoreSlim _room;
    private readonly CancellationTokenSource _end = new();
    private readonly Thread _thread;
    private Ready? _current;
    private ExceptionDispatchInfo? _failure;
    private bool _disposed;

    /// <param name="source">Makes the batches and hands them over; disposed with this.</param>
    /// <param name="ahead">How many batches are made ahead, at least 1.</param>
    /// <param name="disposesBatches">Whether a batch ends when the next one is asked for. One that nobody asked for always does.</param>
    /// <param name="progress">Told of each batch that is handed out.</param>
    public PrefetchingEnumerator(BatchEnumerator<T, S> source, int ahead, bool disposesBatches, EpochProgress progress)
    {
        _source = source;
        _progress = progress;
        _disposesBatches = disposesBatches;
        _room = new SemaphoreSlim(ahead);
        var gradients = is_grad_enabled(); // a new thread begins with its own
        _thread = new Thread(() => Fill(gradients)) { IsBackground = true, Name = "FabricSharp prefetch" };
        _thread.Start();
    }

    public S Current => _current is { } ready ? ready.Batch : default!;

    object? IEnumerator.Current => Current;

    public bool MoveNext()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        DisposeCurrent();
        if (!_ready.TryTake(out _current, Timeout.Infinite))
        {
            _failure?.Throw();
            _progress.Advance(toABatch: false);
            return false;
        }

        _progress.Advance(toABatch: true);
        _room.Release();
        return true;
    }

    public void Reset() => throw new NotSupportedException("An epoch cannot be rewound: enumerate the loader again, which is the next epoch.");

    /// <summary>Returns when the thread has ended, at the latest with the batch that it is making.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _progress.End();
        _end.Cancel();
        _thread.Join();
        DisposeCurrent();
        foreach (var ready in _ready)
            ready.Dispose();
        _ready.Dispose();
        _room.Dispose();
        _end.Dispose();
    }

    private void Fill(bool gradients)
    {
        try
        {
            using var mode = set_grad_enabled(gradients);
            using (_source)
            {
                _room.Wait(_end.Token);
                while (_source.MoveNext())
                {
                    _ready.Add(new Ready(_source.Current, _source.Disposables));
                    _room.Wait(_end.Token);
                }
            }
        }
        catch (OperationCanceledException) when (_end.IsCancellationRequested)
        {
            // the enumeration was left early
        }
        catch (Exception e)
        {
            _failure = ExceptionDispatchInfo.Capture(e);
        }
        finally
        {
            _ready.CompleteAdding();
        }
    }

    private void DisposeCurrent()
    {
        if (_disposesBatches)
            _current?.Dispose();
        _current = null;
    }

    private sealed record Ready(S Batch, IReadOnlyList<IDisposable> Disposables) : IDisposable
    {
        public void Dispose()
        {
            foreach (var disposable in Disposables)
                disposable.Dispose();
        }
    }
}
