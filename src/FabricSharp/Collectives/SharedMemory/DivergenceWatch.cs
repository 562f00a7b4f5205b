using System.Diagnostics;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// During one wait: notices when all ranks wait, not all for the same, and nothing has moved for a while. Then none of them ever will, and
/// each throws <see cref="CollectiveMismatchException"/> instead of sitting out the time limit.
/// See docs/design/shared-memory-protocol.md, "Divergence".
/// </summary>
internal sealed class DivergenceWatch(SharedMemoryWorld world, long token, Func<string> describe)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private long[]? _seen;
    private long[]? _now;
    private long _since;
    private bool _published;

    /// <summary>To be called now and then while the wait lasts.</summary>
    public void Look()
    {
        world.ThrowIfDiverged();
        if (!_published)
        {
            _published = true;
            world.PublishWait(token, describe());
        }

        _seen ??= new long[world.Size];
        _now ??= new long[world.Size];
        if (!world.TryReadWaits(_now) || _now.AsSpan().Count(token) == _now.Length || !_now.AsSpan().SequenceEqual(_seen))
        {
            (_seen, _now) = (_now, _seen);
            _since = Stopwatch.GetTimestamp();
        }
        else if (Stopwatch.GetElapsedTime(_since) >= Patience)
        {
            world.DeclareDiverged();
            world.ThrowIfDiverged();
        }
    }

    public void End()
    {
        if (_published)
            world.ClearWait();
    }
}
