namespace FabricSharp.Data;

/// <summary>
/// Where a data loader goes on: what a checkpoint holds of a <see cref="FabricDataLoader{T, S}"/>. Plain numbers: writes and reads as JSON.
/// </summary>
/// <param name="Epoch">The epoch that is under way, or the next one where none is.</param>
/// <param name="Batches">How many batches of it this rank was given; the next one is number <paramref name="Batches"/>, from 0.</param>
/// <param name="BatchSize">Items per batch.</param>
/// <param name="Ranks">How many ranks share an epoch.</param>
/// <param name="Seed">What the epochs' orders are drawn from; null where nothing is shuffled, or by a sampler of the user.</param>
public sealed record DataLoaderState(int Epoch, long Batches, int BatchSize, int Ranks, long? Seed);
