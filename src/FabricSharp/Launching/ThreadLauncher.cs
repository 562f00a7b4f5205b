using System.Runtime.ExceptionServices;
using FabricSharp.Collectives;
using FabricSharp.Configuration;
using FabricSharp.Environments;

namespace FabricSharp.Launching;

/// <summary>Runs the ranks as threads of this process, each with a Fabric and a strategy of its own.</summary>
internal static class ThreadLauncher
{
    public static T Run<T>(FabricPlan plan, Func<Fabric, T> function)
    {
        using var store = new HashStore();
        var results = new T[plan.LocalWorldSize];
        var failures = new Exception?[plan.LocalWorldSize];
        var threads = Enumerable.Range(0, plan.LocalWorldSize)
            .Select(rank => new Thread(() => RunRank(plan, rank, store, function, results, failures)) { IsBackground = true, Name = $"FabricSharp rank {rank}" })
            .ToList();
        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());
        var first = failures.FirstOrDefault(e => e is not null and not PeerFailedException) ?? failures.FirstOrDefault(e => e is not null);
        if (first is not null)
            ExceptionDispatchInfo.Throw(first);
        return results[0];
    }

    private static void RunRank<T>(FabricPlan plan, int rank, Store store, Func<Fabric, T> function, T[] results, Exception?[] failures)
    {
        try
        {
            using var fabric = Fabric.ForThread(plan with { Strategy = plan.Strategy.CopyForThread(), Precision = plan.Precision.CopyForThread(), Environment = new ThreadEnvironment(rank, plan.LocalWorldSize) });
            try
            {
                fabric.Join(store);
                results[rank] = function(fabric);
            }
            catch (Exception e)
            {
                fabric.Strategy.Group?.Abort($"{e.GetType().Name}: {e.Message}");
                throw;
            }
        }
        catch (Exception e)
        {
            failures[rank] = e;
        }
    }

    /// <summary>A rank that is a thread.</summary>
    private sealed class ThreadEnvironment(int rank, int worldSize) : ClusterEnvironment
    {
        public override string Name => "threads";

        public override bool CreatesProcessesExternally => true;

        public override string MainAddress => "127.0.0.1";

        public override int MainPort => 0;

        public override int LocalRank => rank;

        public override int NodeRank => 0;

        public override int? WorldSize => worldSize;
    }
}
