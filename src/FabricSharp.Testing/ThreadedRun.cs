using System.Runtime.ExceptionServices;
using FabricSharp.Collectives;

namespace FabricSharp.Testing;

/// <summary>Results and failures of ranks that run as threads, and the limit of it all.</summary>
internal sealed class ThreadedRun<T>
{
    /// <summary>How long ranks are given to end when the limit has passed and their groups are ended.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(1);

    private readonly Lock _gate = new();
    private readonly TimeSpan _limit;
    private readonly T[] _results;
    private readonly bool[] _ended;
    private readonly Action<string>?[] _aborts;
    private readonly List<(int Rank, Exception Failure)> _failures = [];
    private Thread? _thread;
    private ExceptionDispatchInfo? _outside;
    private bool _isOver;

    public ThreadedRun(int ranks, TimeSpan limit)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(ranks, 1);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(limit, TimeSpan.Zero);
        _limit = limit;
        _results = new T[ranks];
        _ended = new bool[ranks];
        _aborts = new Action<string>?[ranks];
    }

    /// <summary>Begins <paramref name="all"/>, which runs the ranks and waits for them.</summary>
    public void Start(Action all)
    {
        _thread = new Thread(() => Guarded(all)) { IsBackground = true, Name = "ranks" };
        _thread.Start();
    }

    /// <summary>One rank's part; failures are noted in the order in which they happen, and thrown on.</summary>
    public void OnRank(int rank, Action<string> abort, Func<T> body)
    {
        lock (_gate)
        {
            if (_isOver)
                throw new TimeoutException($"Rank {rank} began after the time limit.");
            _aborts[rank] = abort;
        }

        try
        {
            var result = body();
            lock (_gate)
                _results[rank] = result;
        }
        catch (Exception e)
        {
            Note(rank, e);
            throw;
        }
        finally
        {
            lock (_gate)
                (_ended[rank], _aborts[rank]) = (true, null);
        }
    }

    /// <summary>One rank's part with a group that it joins.</summary>
    public void OnRank(int rank, Store store, TimeSpan timeout, Func<ProcessGroup, T> body)
    {
        try
        {
            using var group = ProcessGroup.Create("shm", store, rank, _results.Length, timeout);
            OnRank(rank, group.Abort, () => Run(group, body));
        }
        catch (Exception e)
        {
            Note(rank, e);
        }
    }

    /// <summary>Waits for the end, or for the limit.</summary>
    public IReadOnlyList<T> End()
    {
        if (!_thread!.Join(_limit))
            throw Late();
        lock (_gate)
        {
            if (_failures.Count > 0)
                throw First();
            _outside?.Throw();
            return _results;
        }
    }

    private static T Run(ProcessGroup group, Func<ProcessGroup, T> body)
    {
        try
        {
            return body(group);
        }
        catch (Exception e)
        {
            group.Abort($"{e.GetType().Name}: {e.Message}");
            throw;
        }
    }

    private void Guarded(Action all)
    {
        try
        {
            all();
        }
        catch (Exception e)
        {
            _outside = ExceptionDispatchInfo.Capture(e);
        }
    }

    private void Note(int rank, Exception failure)
    {
        lock (_gate)
            if (!_failures.Exists(one => ReferenceEquals(one.Failure, failure)))
                _failures.Add((rank, failure));
    }

    /// <summary>Ranks that fail because another did are not the cause, whichever was noticed first.</summary>
    private RankFailedException First()
    {
        var (rank, failure) = _failures.MinBy(one => one.Failure switch { PeerFailedException => 3, DistributedTimeoutException => 2, DistributedException and not InjectedFaultException => 1, _ => 0 });
        return new RankFailedException(rank, _results.Length, failure);
    }

    /// <summary>Ends the ranks' groups, so that threads that wait for each other go.</summary>
    private TimeoutException Late()
    {
        int[] late;
        Action<string>[] aborts;
        RankFailedException? first;
        lock (_gate)
        {
            _isOver = true;
            late = [.. Enumerable.Range(0, _results.Length).Where(rank => !_ended[rank])];
            aborts = [.. _aborts.OfType<Action<string>>()];
            first = _failures.Count > 0 ? First() : null;
        }

        Array.ForEach(aborts, abort => abort($"the time limit of the test ({_limit.TotalSeconds:0.#} s) has passed"));
        _thread!.Join(Grace);
        return new TimeoutException(
            $"{(late.Length == 1 ? "Rank" : "Ranks")} {string.Join(", ", late)} of {_results.Length} did not end within {_limit.TotalSeconds:0.#} s. " +
            "They wait for a rank that took another branch, or are slow: look where they stand in a debugger, or give a longer limit.", first);
    }
}
