using System.Diagnostics;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// During one wait: notices when all ranks wait, not all for the same, and nothing has moved for a while although every rank has looked
/// again (one that is not scheduled may find its operation done when it wakes up). Then none of them will ever go on, and each throws <see cref="CollectiveMismatchException"/> instead of sitting out the time limit.
/// See docs/design/shared-memory-protocol.md, "Divergence".
/// </summary>
internal sealed class DivergenceWatch(SharedMemoryWorld world)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private long[]? _seen;
    private long[]? _now;
    private int[]? _looks, _looksNow;
    private long _since;
    private long _published;

    /// <summary>To be called now and then while the wait lasts.</summary>
    /// <param name="token">What this rank waits for; another one after each progress.</param>
    /// <param name="describe">The same in words.</param>
    public void Look(long token, Func<string> describe)
    {
        world.ThrowIfDiverged();
        if (_published != token)
        {
            _published = token;
            world.PublishWait(token, describe());
        }

        world.CountLook();
        _seen ??= new long[world.Size];
        _now ??= new long[world.Size];
        _looks ??= new int[world.Size];
        _looksNow ??= new int[world.Size];
        world.ReadLooks(_looksNow);
        if (!world.TryReadWaits(_now) || _now.AsSpan().Count(token) == _now.Length || !_now.AsSpan().SequenceEqual(_seen))
        {
            (_seen, _now) = (_now, _seen);
            (_looks, _looksNow) = (_looksNow, _looks);
            _since = Stopwatch.GetTimestamp();
        }
        else if (Stopwatch.GetElapsedTime(_since) >= Patience && EveryRankHasLookedSince())
        {
            world.DeclareDiverged();
            world.ThrowIfDiverged();
        }
    }

    private bool EveryRankHasLookedSince()
    {
        for (var rank = 0; rank < world.Size; rank++)
            if (_looksNow![rank] - _looks![rank] < 2)
                return false;
        return true;
    }

    public void End()
    {
        if (_published != 0)
            world.ClearWait();
    }
}
