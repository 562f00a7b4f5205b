using FabricSharp.Collectives;
using FabricSharp.Strategies;

namespace FabricSharp.Testing;

/// <summary>Puts recordings and faults between Fabric and its ranks.</summary>
public static class StrategyGroups
{
    /// <summary>A strategy with the same settings whose process group is what <paramref name="decorate"/> makes of it.</summary>
    /// <param name="strategy">Not yet used by a Fabric; stays as it is.</param>
    /// <param name="decorate">Called on each rank with its group when it has joined, for example <c>group =&gt; recording.Over(group)</c>.</param>
    /// <example><code>
    /// var strategy = new DDPStrategy().WithGroup(group =&gt; Fault.Over(group, Fault.Delay(TimeSpan.FromMilliseconds(5))));
    /// </code></example>
    public static DDPStrategy WithGroup(this DDPStrategy strategy, Func<ProcessGroup, ProcessGroup> decorate)
    {
        ArgumentNullException.ThrowIfNull(strategy);
        ArgumentNullException.ThrowIfNull(decorate);
        return strategy.CopyWith(strategy.StartMethod, strategy.Decorate is { } before ? group => decorate(before(group)) : decorate);
    }
}
