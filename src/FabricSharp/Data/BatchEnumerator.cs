using System.Collections;
using System.Runtime.ExceptionServices;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Data;

/// <summary>
/// One epoch of batches: TorchSharp's loader over the same data set with other items. A failure is kept until TorchSharp is through with the
/// batch and thrown then: thrown inside, it would make TorchSharp forget the tensors of the batch's other items.
/// </summary>
internal sealed class BatchEnumerator<T, S> : IEnumerator<S>
{
    private readonly DataLoader<T, S> _source;
    private readonly Device? _device;
    private readonly Func<long, ulong>? _seedOf;
    private readonly bool _handsOver;
    private readonly IEnumerator<S> _batches;
    private readonly EpochProgress? _progress;
    private ExceptionDispatchInfo? _failure;

    /// <param name="source">What the batches are made as.</param>
    /// <param name="items">The items to visit.</param>
    /// <param name="device">Where batches are brought; null leaves them.</param>
    /// <param name="seedOf">The seed of an item; null where there is none.</param>
    /// <param name="handsOver">Whether the caller disposes batches (see <see cref="Disposables"/>), because it may ask for the next one early.</param>
    /// <param name="progress">Told of each batch; null where the caller tells, because it asks for batches early.</param>
    public BatchEnumerator(DataLoader<T, S> source, IEnumerable<long> items, Device? device, Func<long, ulong>? seedOf, bool handsOver, EpochProgress? progress)
    {
        _progress = progress;
        _source = source;
        _device = device;
        _seedOf = seedOf;
        _handsOver = handsOver;
        var loader = new DataLoader<T, S>(
            new WatchedDataset(this), source.batch_size, Collate, items, source.Device, source.num_workers, source.drop_last, source.DisposeBatch && !handsOver, disposeDataset: false);
        _batches = loader.GetEnumerator();
    }

    public S Current => _batches.Current;

    object? IEnumerator.Current => Current;

    /// <summary>What <see cref="Current"/> is made of belongs to the caller; nothing where it does not hand over.</summary>
    public IReadOnlyList<IDisposable> Disposables { get; private set; } = [];

    public bool MoveNext()
    {
        _failure?.Throw();
        var more = _batches.MoveNext();
        _failure?.Throw();
        _progress?.Advance(toABatch: more);
        return more;
    }

    public void Reset() => throw new NotSupportedException("An epoch cannot be rewound: enumerate the loader again, which is the next epoch.");

    public void Dispose()
    {
        _progress?.End();
        _batches.Dispose();
    }

    private T Item(long index)
    {
        if (_failure is not null)
            return default!;
        try
        {
            return _seedOf is null ? _source.dataset.GetTensor(index) : ItemRandom.Run(_seedOf(index), () => _source.dataset.GetTensor(index));
        }
        catch (Exception e)
        {
            Keep(new DatasetItemException(index, e));
            return default!;
        }
    }

    private S Collate(IEnumerable<T> items, Device device)
    {
        if (_failure is not null)
            return default!;
        try
        {
            return _handsOver ? KeepDisposables(() => Make(items, device)) : Make(items, device);
        }
        catch (Exception e)
        {
            Keep(e);
            return default!;
        }
    }

    private S Make(IEnumerable<T> items, Device device) =>
        _device is null ? _source.collate_fn(items, device) : BatchPlacement.Make(() => _source.collate_fn(items, device), _device);

    /// <summary>TorchSharp takes the batch out of the scope around this call and forgets it.</summary>
    private S KeepDisposables(Func<S> make)
    {
        using var scope = NewDisposeScope();
        var batch = make();
        Disposables = scope.DisposablesView.ToArray();
        scope.MoveToOuter(scope.DisposablesView);
        return batch;
    }

    /// <summary>The first failure is the one to tell; workers may fail at the same time.</summary>
    private void Keep(Exception failure) => Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(failure), null);

    private sealed class WatchedDataset(BatchEnumerator<T, S> owner) : utils.data.Dataset<T>
    {
        public override long Count => owner._source.dataset.Count;

        public override T GetTensor(long index) => owner.Item(index);
    }
}
