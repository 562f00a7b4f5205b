namespace FabricSharp.Data;

/// <summary>
/// A sampler whose order depends on the epoch. Data loaders that <c>SetupDataLoaders</c> gave back call <see cref="SetEpoch"/> by themselves
/// before each enumeration; implement it in a sampler of your own to be told.
/// </summary>
public interface IEpochSampler : IEnumerable<long>
{
    /// <summary>Sets the epoch that the next enumeration draws the order of. Local.</summary>
    /// <param name="epoch">From 0.</param>
    void SetEpoch(int epoch);
}
