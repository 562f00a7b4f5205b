namespace FabricSharp.Checkpointing;

/// <summary>What a save was asked for, checked before anything is done.</summary>
internal sealed class SaveRequest
{
    private readonly IReadOnlyDictionary<string, object?> _state;
    private readonly IReadOnlyDictionary<string, Func<string, object, bool>>? _filter;

    /// <exception cref="ArgumentException">It cannot be done.</exception>
    public SaveRequest(string path, IReadOnlyDictionary<string, object?> state, IReadOnlyDictionary<string, Func<string, object, bool>>? filter, int? keepLast)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(path);
        ArgumentNullException.ThrowIfNull(state);
        EntryFilter.Check(state, filter);
        (Place, _state, _filter) = (new CheckpointPlace(path), state, filter);
        if (keepLast is < 1)
            throw new ArgumentOutOfRangeException(nameof(keepLast), keepLast, $"keepLast: {keepLast}: the checkpoint that is saved counts, so that it is at least 1; null keeps all.");
        if (keepLast is not null)
            CheckpointFamily.Of(Place);
    }

    public CheckpointPlace Place { get; }

    /// <param name="ranks">Each rank's own parts.</param>
    public IReadOnlyList<SavedEntry> Entries(IReadOnlyList<byte[]> ranks) => SavedEntry.OfAll(_state, _filter, ranks);
}
