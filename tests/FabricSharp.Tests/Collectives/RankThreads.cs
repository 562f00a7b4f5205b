using FabricSharp.Collectives;

namespace FabricSharp.Tests.Collectives;

/// <summary>Ranks as threads of this process.</summary>
internal static class RankThreads
{
    /// <summary>Runs <paramref name="body"/> on each rank and throws the first rank's failure.</summary>
    public static void Run(int size, Action<int> body)
    {
        var failures = RunEach(size, body);
        var first = failures.Where(e => e is not null).MinBy(Remoteness);
        if (first is not null)
            throw new InvalidOperationException($"Rank {Array.IndexOf(failures, first)} of {size} failed: {first}", first);
    }

    /// <summary>How far a failure is from the cause: ranks that wait for a rank that failed fail, too.</summary>
    public static int Remoteness(Exception? failure) => failure switch
    {
        PeerFailedException => 3,
        DistributedTimeoutException => 2,
        DistributedException => 1,
        _ => 0,
    };

    /// <summary>Runs <paramref name="body"/> on each rank; returns what each threw.</summary>
    public static Exception?[] RunEach(int size, Action<int> body)
    {
        var threads = Enumerable.Range(0, size).Select(rank => LimitedThread.Start(() => body(rank), $"rank {rank}")).ToList();
        return [.. threads.Select(thread => thread.End())];
    }
}
