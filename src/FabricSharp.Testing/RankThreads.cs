using FabricSharp.Collectives;
using FabricSharp.Strategies;

namespace FabricSharp.Testing;

/// <summary>
/// Ranks as threads of the test: the same code as in processes, started in milliseconds, and a debugger sees all of them. They share the process's
/// generator of random numbers: give random tensors a generator of their own.
/// </summary>
public static class RankThreads
{
    /// <summary>How long ranks may take unless told otherwise: 30 seconds.</summary>
    public static readonly TimeSpan DefaultLimit = TimeSpan.FromSeconds(30);

    /// <summary>Runs <paramref name="body"/> on each rank with a launched Fabric of CPU devices.</summary>
    /// <param name="ranks">The number of ranks, from 1.</param>
    /// <param name="body">Gets the rank's Fabric, which is disposed afterwards.</param>
    /// <param name="strategy">How the ranks train; its start method does not matter. <value>Default <c>new DDPStrategy()</c>.</value></param>
    /// <param name="limit">How long all may take. <value>Default <see cref="DefaultLimit"/>.</value></param>
    /// <returns>What each rank returned, in their order.</returns>
    /// <exception cref="RankFailedException">A rank failed.</exception>
    /// <exception cref="TimeoutException">Some rank did not end in time; the message says which.</exception>
    public static IReadOnlyList<T> Run<T>(int ranks, Func<Fabric, T> body, DDPStrategy? strategy = null, TimeSpan? limit = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        var run = new ThreadedRun<T>(ranks, limit ?? DefaultLimit);
        var plan = (strategy ?? new DDPStrategy()).CopyWith(StartMethod.Notebook, strategy?.Decorate);
        run.Start(() =>
        {
            using var fabric = new Fabric(accelerator: "cpu", devices: ranks, strategy: plan);
            fabric.Launch(own => run.OnRank(own.GlobalRank, reason => own.Strategy.Group?.Abort(reason), () => body(own)));
        });
        return run.End();
    }

    /// <summary>The same without results.</summary>
    /// <param name="ranks">The number of ranks, from 1.</param>
    /// <param name="body">Gets the rank's Fabric.</param>
    /// <param name="strategy">How the ranks train. <value>Default <c>new DDPStrategy()</c>.</value></param>
    /// <param name="limit">How long all may take. <value>Default <see cref="DefaultLimit"/>.</value></param>
    /// <exception cref="RankFailedException">A rank failed.</exception>
    /// <exception cref="TimeoutException">Some rank did not end in time.</exception>
    public static void Run(int ranks, Action<Fabric> body, DDPStrategy? strategy = null, TimeSpan? limit = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        Run(ranks, Returning(body), strategy, limit);
    }

    /// <summary>Runs <paramref name="body"/> on each rank with a process group, without Fabric.</summary>
    /// <param name="ranks">The number of ranks, from 1.</param>
    /// <param name="body">Gets the rank's group, which is disposed afterwards.</param>
    /// <param name="limit">How long all may take, and each wait of the group. <value>Default <see cref="DefaultLimit"/>.</value></param>
    /// <returns>What each rank returned, in their order.</returns>
    /// <exception cref="RankFailedException">A rank failed.</exception>
    /// <exception cref="TimeoutException">Some rank did not end in time; the message says which.</exception>
    public static IReadOnlyList<T> RunGroup<T>(int ranks, Func<ProcessGroup, T> body, TimeSpan? limit = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        var run = new ThreadedRun<T>(ranks, limit ?? DefaultLimit);
        run.Start(() => JoinAndRun(ranks, body, limit ?? DefaultLimit, run));
        return run.End();
    }

    /// <summary>The same without results.</summary>
    /// <param name="ranks">The number of ranks, from 1.</param>
    /// <param name="body">Gets the rank's group.</param>
    /// <param name="limit">How long all may take, and each wait of the group. <value>Default <see cref="DefaultLimit"/>.</value></param>
    /// <exception cref="RankFailedException">A rank failed.</exception>
    /// <exception cref="TimeoutException">Some rank did not end in time.</exception>
    public static void RunGroup(int ranks, Action<ProcessGroup> body, TimeSpan? limit = null)
    {
        ArgumentNullException.ThrowIfNull(body);
        RunGroup(ranks, Returning(body), limit);
    }

    private static Func<TArgument, bool> Returning<TArgument>(Action<TArgument> body) => argument =>
    {
        body(argument);
        return true;
    };

    private static void JoinAndRun<T>(int ranks, Func<ProcessGroup, T> body, TimeSpan limit, ThreadedRun<T> run)
    {
        using var store = new HashStore();
        var threads = Enumerable.Range(0, ranks).Select(rank => new Thread(() => run.OnRank(rank, store, limit, body)) { IsBackground = true, Name = $"rank {rank}" }).ToList();
        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());
    }
}
