using System.Diagnostics;
using FabricSharp.Interop.Posix;

namespace FabricSharp.Collectives.Mpi;

/// <summary>How one waits for MPI, which can only be asked: eagerly at first, then giving the core to others, then asleep for longer and longer.</summary>
internal struct MpiPause(TimeSpan limit)
{
    private const int EagerRounds = 30;

    private static readonly TimeSpan Yields = TimeSpan.FromMicroseconds(100), Longest = TimeSpan.FromMicroseconds(500);

    private static readonly TimeSpan Shortest = TimeSpan.FromMilliseconds(1);
    private static readonly ManualResetEventSlim Never = new();

    private readonly long _start = Stopwatch.GetTimestamp();
    private long _lastMove = Stopwatch.GetTimestamp();
    private int _rounds;

    /// <summary>Something moved: more may soon.</summary>
    public void Moved()
    {
        _rounds = 0;
        _lastMove = Stopwatch.GetTimestamp();
    }

    /// <summary>Pauses once; false when the limit has passed.</summary>
    public bool Once()
    {
        if (++_rounds < EagerRounds)
            return true;
        if (Stopwatch.GetElapsedTime(_start) >= limit)
            return false;
        var still = Stopwatch.GetElapsedTime(_lastMove);
        if (still < Yields)
            Thread.Yield();
        else
            Sleep(still / 8 < Longest ? still / 8 : Longest);
        return true;
    }

    /// <summary>Sleeps less than a millisecond where the system can.</summary>
    public static unsafe void Sleep(TimeSpan time)
    {
        if (!PosixApi.IsSupported)
        {
            Never.Wait(time > Shortest ? time : Shortest);
            return;
        }

        var word = 0;
        PosixApi.WaitOnWord(&word, 0, time);
    }
}
