using FabricSharp.Data;
using FabricSharp.Seeding;

namespace FabricSharp;

/// <summary>Seeding.</summary>
public sealed partial class Fabric
{
    /// <summary>
    /// Seeds TorchSharp's generators of all devices with the same number on every rank, so that models start alike, and exports it as PL_GLOBAL_SEED
    /// for ranks that are started later; data loaders shuffle by it. Local.
    /// </summary>
    /// <remarks>
    /// .NET has no generator for all that could be seeded: make one with <c>new Random((int)Fabric.SeedEverything(42))</c>. In data sets there is
    /// <see cref="ItemRandom"/>.
    /// </remarks>
    /// <param name="seed">0 to 2³² − 1. <value>Default: PL_GLOBAL_SEED, else 0 with a warning.</value></param>
    /// <param name="workers">
    /// Whether data loaders seed what data sets draw from <see cref="ItemRandom"/>, differently on each rank and for each item; exported as
    /// PL_SEED_WORKERS. <value>Default true, as in Lightning Fabric.</value>
    /// </param>
    /// <returns>The seed that was set.</returns>
    /// <exception cref="ArgumentException">The seed, or PL_GLOBAL_SEED, is out of bounds.</exception>
    public static long SeedEverything(long? seed = null, bool workers = true)
    {
        var chosen = seed ?? GlobalSeed.Current ?? 0;
        if (seed is null && GlobalSeed.Current is null)
            Console.Error.WriteLine("FabricSharp: No seed found, seed set to 0.");
        if (chosen is < 0 or > uint.MaxValue)
            throw new ArgumentOutOfRangeException(nameof(seed), chosen, $"{chosen} is not in bounds, seeds go from 0 to {uint.MaxValue}.");
        GlobalSeed.Set(chosen, workers);
        return chosen;
    }

    /// <summary>Seeds TorchSharp's generators with PL_GLOBAL_SEED again, as <see cref="SeedEverything"/> left it; does nothing without. Local.</summary>
    public static void ResetSeed()
    {
        if (GlobalSeed.Current is { } seed)
            GlobalSeed.Apply(seed);
    }
}
