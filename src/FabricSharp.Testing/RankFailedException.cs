namespace FabricSharp.Testing;

/// <summary>A rank of a test failed: the first of them, or the one that is nearest to the cause.</summary>
public sealed class RankFailedException : Exception
{
    internal RankFailedException(int rank, int size, Exception failure)
        : base($"Rank {rank} of {size} failed: {failure.GetType().Name}: {failure.Message}", failure) => Rank = rank;

    /// <summary>The rank; its failure is the <see cref="Exception.InnerException"/>.</summary>
    public int Rank { get; }
}
