using FabricSharp.Strategies;

namespace FabricSharp.Tests;

/// <summary>Fabrics whose ranks are threads of the test.</summary>
internal static class Ranks
{
    /// <summary>Runs <paramref name="function"/> on every rank and returns what each returned.</summary>
    public static T[] Run<T>(int count, Func<Fabric, T> function, StrategyChoice? strategy = null)
    {
        var results = new T[count];
        using var fabric = new Fabric(accelerator: "cpu", devices: count, strategy: strategy ?? new DDPStrategy(findUnusedParameters: true, timeout: TimeSpan.FromSeconds(20), startMethod: StartMethod.Notebook));
        fabric.Launch(rank =>
        {
            results[rank.GlobalRank] = function(rank);
        });
        return results;
    }

    /// <summary>Runs <paramref name="action"/> on every rank.</summary>
    public static void Run(int count, Action<Fabric> action, StrategyChoice? strategy = null) => Run(
        count,
        rank =>
        {
            action(rank);
            return true;
        },
        strategy);
}
