namespace FabricSharp.Data;

/// <summary>What all loaders that <c>SetupDataLoaders</c> gives back have in common, whatever their batches.</summary>
internal interface IResumableLoader
{
    DataLoaderState State { get; }

    /// <summary>Where this loader is at <paramref name="state"/>, which may be of another number of ranks or batch size.</summary>
    /// <returns>The state in this loader's batches, and whether that is the same place: else the batch that it lies in is repeated.</returns>
    /// <exception cref="ArgumentException">There is no such place in this loader.</exception>
    (DataLoaderState State, bool IsExact) Translate(DataLoaderState state);

    void LoadState(DataLoaderState state);
}
