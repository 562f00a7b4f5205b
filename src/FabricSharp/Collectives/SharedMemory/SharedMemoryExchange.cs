namespace FabricSharp.Collectives.SharedMemory;

/// <summary>Making files together. Collective.</summary>
internal static class SharedMemoryExchange
{
    /// <summary>Rank 0 makes a segment, all map it, its name goes away.</summary>
    public static SharedMemorySegment CreateCommon(SharedMemoryWorld world, string name, long bytes)
    {
        var number = world.NextFileNumber();
        var file = $"{world.Token}-{number}";
        return WithPublishedFailure(world, () =>
        {
            var segment = world.Rank == 0 ? Make(world, file, number, bytes) : null;
            try
            {
                world.Meet($"making '{name}' of {bytes} bytes");
                segment ??= Open(world, 0, file, number, bytes);
                WarnOfFallback(world, name, number, bytes);
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
        var number = world.NextFileNumber();
        var prefix = $"{world.Token}-{number}-";
        return WithPublishedFailure(world, () =>
        {
            var all = new SharedMemorySegment[world.Size];
            all[world.Rank] = Make(world, prefix + world.Rank, number, bytes);
            try
            {
                world.Meet($"making '{name}' of {bytes} bytes");
                for (var rank = 0; rank < world.Size; rank++)
                    all[rank] ??= Open(world, rank, prefix + rank, number, bytes);
                WarnOfFallback(world, name, number, bytes);
                world.Meet($"mapping '{name}'");
                return all;
            }
            finally
            {
                all[world.Rank].Unlink();
            }
        });
    }

    private static SharedMemorySegment Make(SharedMemoryWorld world, string file, long number, long bytes)
    {
        var (segment, isElsewhere) = SharedMemorySegment.CreateIn(world.Folders, file, bytes);
        if (isElsewhere)
            world.NoteElsewhere(number);
        return segment;
    }

    private static SharedMemorySegment Open(SharedMemoryWorld world, int rank, string file, long number, long bytes) =>
        SharedMemorySegment.Open(Path.Combine(world.IsElsewhere(rank, number) ? world.Folders.Fallback ?? Path.GetTempPath() : world.Folders.Main, file), bytes);

    private static void WarnOfFallback(SharedMemoryWorld world, string name, long number, long bytes)
    {
        if (world.Rank != 0 || world.HasWarnedOfFallback || !Enumerable.Range(0, world.Size).Any(rank => world.IsElsewhere(rank, number)))
            return;
        world.HasWarnedOfFallback = true;
        world.Warn(
            $"{world.Folders.Main} has no room for {bytes:N0} bytes of '{name}' on each rank that needs them: files in {world.Folders.Fallback} take its place, which is slower where that is on a disk. " +
            $"{SharedMemoryDirectory.Describe(Path.Combine(world.Folders.Main, name))} In a container raise it, for example with --shm-size=1g, or name another folder in {SharedMemoryDirectory.Variable}.");
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
