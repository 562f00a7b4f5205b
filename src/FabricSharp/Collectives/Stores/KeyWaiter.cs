namespace FabricSharp.Collectives.Stores;

/// <summary>Somebody who waits until all of some keys exist at the same time. Changed only under the table's lock.</summary>
internal sealed class KeyWaiter(string[] keys)
{
    // Continuations run elsewhere: they would otherwise run inside the table's lock.
    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>The keys, each once.</summary>
    public string[] Keys { get; } = keys;

    /// <summary>How many of them do not exist now. Kept for waiters of several keys; the first event ends one of a single key.</summary>
    public int Missing { get; set; }

    /// <summary>Ends when the keys exist; fails when the table is closed.</summary>
    public Task Done => _done.Task;

    public void Complete() => _done.TrySetResult();

    public void Fail(Exception reason) => _done.TrySetException(reason);
}

/// <summary>Who waits for which key. Every member needs the lock of the table that owns it.</summary>
internal sealed class KeyWaiters
{
    // A waiter stands under all of its keys, those that exist included, because they may be deleted before the others appear.
    private readonly Dictionary<string, List<KeyWaiter>> _byKey = [];

    public void Register(KeyWaiter waiter)
    {
        foreach (var key in waiter.Keys)
        {
            if (!_byKey.TryGetValue(key, out var waiters))
                _byKey[key] = waiters = [];
            waiters.Add(waiter);
        }
    }

    public void Unregister(KeyWaiter waiter)
    {
        foreach (var key in waiter.Keys)
        {
            if (_byKey.TryGetValue(key, out var waiters) && waiters.Remove(waiter) && waiters.Count == 0)
                _byKey.Remove(key);
        }
    }

    /// <summary>A value was set where none was; <paramref name="isNew"/>: no queue of that name had items either.</summary>
    public void ValueAppeared(string key, bool isNew)
    {
        foreach (var waiter in WaitingFor(key))
        {
            if (waiter.Keys.Length == 1)
                Complete(waiter);
            else if (isNew)
                CountDown(waiter);
        }
    }

    /// <summary>
    /// An item was put into a queue. One of those that wait for this queue alone is let go, the first: each of them takes an
    /// item next, and there is one more.
    /// </summary>
    public void QueueGrew(string key, bool isNew)
    {
        var waiters = WaitingFor(key);
        if (Array.Find(waiters, waiter => waiter.Keys.Length == 1) is { } first)
            Complete(first);

        foreach (var waiter in isNew ? waiters : [])
        {
            if (waiter.Keys.Length > 1)
                CountDown(waiter);
        }
    }

    /// <summary>There is neither a value nor a queue item of that name any more.</summary>
    public void KeyVanished(string key)
    {
        foreach (var waiter in WaitingFor(key))
            waiter.Missing++;
    }

    public void FailAll(Func<KeyWaiter, Exception> reason)
    {
        foreach (var waiter in _byKey.Values.SelectMany(waiters => waiters).Distinct().ToArray())
            waiter.Fail(reason(waiter));
        _byKey.Clear();
    }

    // A copy, because those that are let go leave the list.
    private KeyWaiter[] WaitingFor(string key) => _byKey.TryGetValue(key, out var waiters) ? [.. waiters] : [];

    private void CountDown(KeyWaiter waiter)
    {
        waiter.Missing--;
        if (waiter.Missing == 0)
            Complete(waiter);
    }

    private void Complete(KeyWaiter waiter)
    {
        Unregister(waiter);
        waiter.Complete();
    }
}
