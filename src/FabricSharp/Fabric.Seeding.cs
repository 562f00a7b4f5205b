using System.Globalization;
using static TorchSharp.torch;

namespace FabricSharp;

/// <summary>Seeding.</summary>
public sealed partial class Fabric
{
    private const string SeedVariable = "PL_GLOBAL_SEED";

    /// <summary>
    /// Seeds TorchSharp's generators with the same number on every rank, so that models start alike, and exports it as PL_GLOBAL_SEED
    /// for ranks that are started later; data loaders shuffle by it. Local.
    /// </summary>
    /// <param name="seed">0 to 2³² − 1. <value>Default: PL_GLOBAL_SEED, else 0 with a warning.</value></param>
    /// <returns>The seed that was set.</returns>
    public static long SeedEverything(long? seed = null)
    {
        var chosen = seed ?? SeedOfEnvironment() ?? 0;
        if (seed is null && SeedOfEnvironment() is null)
            Console.Error.WriteLine("FabricSharp: No seed found, seed set to 0.");
        if (chosen is < 0 or > uint.MaxValue)
            throw new ArgumentOutOfRangeException(nameof(seed), chosen, $"{chosen} is not in bounds, seeds go from 0 to {uint.MaxValue}.");
        random.manual_seed(chosen);
        Environment.SetEnvironmentVariable(SeedVariable, chosen.ToString(CultureInfo.InvariantCulture));
        return chosen;
    }

    private static long? SeedOfEnvironment()
    {
        var text = Environment.GetEnvironmentVariable(SeedVariable);
        if (string.IsNullOrEmpty(text))
            return null;
        return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var seed) && seed <= uint.MaxValue
            ? seed
            : throw new ArgumentException($"The environment variable {SeedVariable}={text} must be a whole number from 0 to {uint.MaxValue}.");
    }
}
