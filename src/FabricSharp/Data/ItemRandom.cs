namespace FabricSharp.Data;

/// <summary>
/// Random numbers for data sets (augmentation, noise, cropping) that repeat from run to run although workers load items in any order: the generator
/// begins anew with each item, from the global seed, the rank, the epoch and the item's index, so that ranks and items draw different numbers. For
/// data loaders that <c>SetupDataLoaders</c> gave back after <c>Fabric.SeedEverything(seed, workers: true)</c>.
/// </summary>
/// <remarks>TorchSharp's own random functions draw from one generator of the process, so that which worker comes first decides what an item gets. Use
/// <c>new torch.Generator(ItemRandom.Seed!.Value)</c> with them.</remarks>
public static class ItemRandom
{
    [ThreadStatic]
    private static ulong? _seed;

    [ThreadStatic]
    private static Random? _random;

    /// <summary>The generator of the item that this thread is loading; <see cref="Random.Shared"/>, which has no seed, outside of <c>GetTensor</c> and without seeding.</summary>
    public static Random Current => _seed is { } seed ? _random ??= new SplitMix64(seed) : Random.Shared;

    /// <summary>What <see cref="Current"/> began with, for a generator of your own; null where that has no seed.</summary>
    public static ulong? Seed => _seed;

    /// <summary>Loads an item under its seed.</summary>
    internal static T Run<T>(ulong? seed, Func<T> load)
    {
        var (outerSeed, outerRandom) = (_seed, _random);
        (_seed, _random) = (seed, null);
        try
        {
            return load();
        }
        finally
        {
            (_seed, _random) = (outerSeed, outerRandom);
        }
    }
}
