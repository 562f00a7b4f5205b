namespace FabricSharp.Collectives.SharedMemory;

/// <summary>Making files together. Collective.</summary>
internal static class SharedMemoryExchange
{
    /// <summary>Rank 0 makes a segment, all map it, its name goes away.</summary>
    public static SharedMemorySegment CreateCommon(SharedMemoryWorld world, string name, long bytes)
    {
        var path = Path.Combine(world.Folder, $"{world.Token}-{world.NextFileNumber()}");
        return WithPublishedFailure(world, () =>
        {
            var segment = world.Rank == 0 ? SharedMemorySegment.Create(path, bytes) : null;
            try
            {
                world.Meet($"making '{name}' of {bytes} bytes");
                segment ??= SharedMemorySegment.Open(path, bytes);
                world.Meet($"mapping '{name}'");
                return segment;
            }
            finally
            {
                if (world.Rank == 0)
                    segment!.Unlink();
            }
        });
    }

    /// <summary>Every rank makes a segment of its own and maps those of all others; the names go away.</summary>
    public static SharedMemorySegment[] CreateEach(SharedMemoryWorld world, string name, long bytes)
    {
        var prefix = Path.Combine(world.Folder, $"{world.Token}-{world.NextFileNumber()}-");
        return WithPublishedFailure(world, () =>
        {
            var all = new SharedMemorySegment[world.Size];
            all[world.Rank] = SharedMemorySegment.Create(prefix + world.Rank, bytes);
            try
            {
                world.Meet($"making '{name}' of {bytes} bytes");
                for (var rank = 0; rank < world.Size; rank++)
                    all[rank] ??= SharedMemorySegment.Open(prefix + rank, bytes);
                world.Meet($"mapping '{name}'");
                return all;
            }
            finally
            {
                all[world.Rank].Unlink();
            }
        });
    }

    /// <summary>A rank that cannot make its part tells the others, which would wait for it.</summary>
    private static T WithPublishedFailure<T>(SharedMemoryWorld world, Func<T> make)
    {
        try
        {
            return make();
        }
        catch (DistributedException e) when (e is not PeerFailedException)
        {
            world.Fail(e.Message);
            throw;
        }
    }
}
