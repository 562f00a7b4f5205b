namespace FabricSharp.DataParallel;

/// <summary>Which rank owns which parameter: the largest first, each to the rank with the least so far, of equals to the lowest; as PyTorch does.</summary>
/// <param name="ranks">The number of ranks.</param>
internal sealed class ParameterPartition(int ranks)
{
    private readonly long[] _loads = new long[ranks];

    /// <summary>Elements per rank.</summary>
    public IReadOnlyList<long> Loads => _loads;

    /// <summary>Adds a group.</summary>
    /// <param name="sizes">The number of elements of each parameter.</param>
    /// <returns>The owner of each parameter.</returns>
    public int[] Add(IReadOnlyList<long> sizes)
    {
        var owners = new int[sizes.Count];
        foreach (var (index, size) in sizes.Index().OrderByDescending(parameter => parameter.Item)) // stable
        {
            var owner = Array.IndexOf(_loads, _loads.Min());
            owners[index] = owner;
            _loads[owner] += size;
        }

        return owners;
    }
}
