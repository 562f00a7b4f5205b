using FabricSharp.Environments;
using FabricSharp.Precision;

namespace FabricSharp.Configuration;

/// <summary>The plugins of a Fabric by kind, at most one of each.</summary>
/// <param name="Environment">Where ranks come from; null: to be detected.</param>
/// <param name="Precision">In which element types models compute; null: what the argument says.</param>
internal sealed record PluginSet(ClusterEnvironment? Environment, PrecisionPlugin? Precision)
{
    /// <exception cref="ArgumentException">An object is of no known kind, or two are of one kind.</exception>
    public static PluginSet From(IEnumerable<object>? plugins)
    {
        var all = plugins?.ToList() ?? [];
        if (all.Find(plugin => plugin is not (ClusterEnvironment or PrecisionPlugin or null)) is { } unknown)
            throw Unknown(unknown.GetType().Name);
        if (all.Contains(null!))
            throw Unknown("null");
        return new PluginSet(Single<ClusterEnvironment>(all), Single<PrecisionPlugin>(all));
    }

    private static T? Single<T>(List<object> plugins)
        where T : class
    {
        var ofKind = plugins.OfType<T>().ToList();
        if (ofKind.Count > 1)
            throw new ArgumentException(
                $"Received multiple values for {typeof(T).Name} flags in `plugins`: {string.Join(", ", ofKind.Select(plugin => plugin.GetType().Name))}. Give one.", nameof(plugins));
        return ofKind.FirstOrDefault();
    }

    private static ArgumentException Unknown(string type) =>
        new($"Found invalid type for plugin {type}. Expected one of: {nameof(PrecisionPlugin)}, {nameof(ClusterEnvironment)}.", "plugins");
}
