using System.Collections.Concurrent;
using FabricSharp.Configuration;

namespace FabricSharp.Strategies;

/// <summary>The strategies by name. Names are not case-sensitive.</summary>
public static class StrategyRegistry
{
    private const string NoFork =
        "a .NET process cannot be forked: its threads (garbage collector, thread pool) would not exist in the copy. Use 'ddp' (the program is started again for each rank), 'ddp_spawn' or 'ddp_notebook'.";

    private static readonly ConcurrentDictionary<string, (Func<Strategy> Factory, string Description)> Known = new(StringComparer.OrdinalIgnoreCase);

    static StrategyRegistry()
    {
        foreach (var (start, method) in new[] { ("ddp", StartMethod.Popen), ("ddp_spawn", StartMethod.Spawn), ("ddp_notebook", StartMethod.Notebook) })
        {
            Register(start, () => new DDPStrategy(startMethod: method), $"Data-parallel training, every parameter used in each step ({method}).");
            Register($"{start}_find_unused_parameters_false", () => new DDPStrategy(startMethod: method), $"The same, said explicitly ({method}).");
            Register($"{start}_find_unused_parameters_true", () => new DDPStrategy(findUnusedParameters: true, startMethod: method), $"Data-parallel training in which parameters may go unused ({method}).");
        }
    }

    /// <summary>Every name that can be chosen, <c>auto</c> included, sorted.</summary>
    public static IReadOnlyList<string> Available => [.. Known.Keys.Append("auto").Order(StringComparer.Ordinal)];

    /// <summary>Makes a strategy known by name.</summary>
    /// <param name="name">Not yet taken.</param>
    /// <param name="factory">Makes a new object for each Fabric.</param>
    /// <param name="description">One sentence for lists.</param>
    /// <exception cref="ArgumentException">The name is taken.</exception>
    public static void Register(string name, Func<Strategy> factory, string description)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(factory);
        if (IsReserved(name) || !Known.TryAdd(name, (factory, description)))
            throw new ArgumentException($"'{name}' is already present in the registry.", nameof(name));
    }

    /// <summary>The strategy of a name; <c>auto</c> is data-parallel for several devices or machines, else a single device.</summary>
    internal static Strategy Resolve(string name, int deviceCount, int numNodes)
    {
        if (name.Equals("auto", StringComparison.OrdinalIgnoreCase))
            return deviceCount > 1 || numNodes > 1 ? new DDPStrategy() : new SingleDeviceStrategy();
        if (IsForkName(name))
            throw new ArgumentException($"You selected `Fabric(strategy='{name}')` but {NoFork}", "strategy");
        if (Known.TryGetValue(name, out var known))
            return known.Factory();
        throw UnknownName.For("strategy", name, Available);
    }

    private static bool IsForkName(string name) => name.StartsWith("ddp_fork", StringComparison.OrdinalIgnoreCase);

    /// <summary>Whether <see cref="Resolve"/> answers the name before it looks at what was registered.</summary>
    private static bool IsReserved(string name) => name.Equals("auto", StringComparison.OrdinalIgnoreCase) || IsForkName(name);
}
