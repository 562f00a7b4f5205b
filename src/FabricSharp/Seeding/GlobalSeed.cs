using System.Globalization;
using static TorchSharp.torch;

namespace FabricSharp.Seeding;

/// <summary>The seed of this process and of those that it starts, in the environment variables of Lightning.</summary>
internal static class GlobalSeed
{
    private const string SeedVariable = "PL_GLOBAL_SEED", WorkersVariable = "PL_SEED_WORKERS";

    /// <summary>The exported seed; null where there is none.</summary>
    /// <exception cref="ArgumentException">The variable is no seed.</exception>
    public static long? Current
    {
        get
        {
            var text = Environment.GetEnvironmentVariable(SeedVariable);
            if (string.IsNullOrEmpty(text))
                return null;
            return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var seed) && seed <= uint.MaxValue
                ? seed
                : throw new ArgumentException($"The environment variable {SeedVariable}={text} must be a whole number from 0 to {uint.MaxValue}.");
        }
    }

    /// <summary>Whether what data sets draw is to be seeded, too.</summary>
    public static bool SeedsWorkers => Environment.GetEnvironmentVariable(WorkersVariable) == "1";

    /// <summary>Seeds and exports.</summary>
    public static void Set(long seed, bool workers)
    {
        Apply(seed);
        Environment.SetEnvironmentVariable(SeedVariable, seed.ToString(CultureInfo.InvariantCulture));
        Environment.SetEnvironmentVariable(WorkersVariable, workers ? "1" : "0");
    }

    /// <summary>libtorch's generators of all devices.</summary>
    public static void Apply(long seed) => random.manual_seed(seed);
}
