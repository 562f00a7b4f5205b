namespace FabricSharp.Collectives.Stores;

/// <content>Queues: they have names of their own, beside the values, but a name with items counts as present in waits.</content>
internal sealed partial class KeyValueTable
{
    // A queue without items is not in here.
    private readonly Dictionary<string, Queue<byte[]>> _queues = [];

    public void Push(string queue, byte[] item)
    {
        lock (_gate)
        {
            ReserveLocked(CostOf(queue, item));
            var wasPresent = IsPresentLocked(queue);
            if (!_queues.TryGetValue(queue, out var items))
                _queues[queue] = items = new Queue<byte[]>();
            items.Enqueue(item);
            _waiters.QueueGrew(queue, isNew: !wasPresent);
        }
    }

    /// <summary>Takes the oldest item.</summary>
    /// <returns>The number of items before the call, and the item if there was one.</returns>
    public (long Length, byte[]? Item) Pop(string queue)
    {
        lock (_gate)
        {
            if (!_queues.TryGetValue(queue, out var items))
                return (0, null);

            var length = items.Count;
            var item = items.Dequeue();
            _bytes -= CostOf(queue, item);
            if (items.Count == 0)
                RemoveQueueLocked(queue);
            return (length, item);
        }
    }

    public long QueueLength(string queue)
    {
        lock (_gate)
            return _queues.TryGetValue(queue, out var items) ? items.Count : 0;
    }

    private void RemoveQueueLocked(string queue)
    {
        _queues.Remove(queue);
        if (!IsPresentLocked(queue))
            _waiters.KeyVanished(queue);
    }
}
