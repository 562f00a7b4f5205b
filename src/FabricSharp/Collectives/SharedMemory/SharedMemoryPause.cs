using System.Diagnostics;

namespace FabricSharp.Collectives.SharedMemory;

/// <summary>
/// How a rank waits for another: it spins for a while (the answer usually comes within microseconds), then sleeps on its doorbell.
/// With more ranks than cores it hardly spins, for the other rank needs the core.
/// Use: <c>while (!done) if (!pause.Once()) throw time-out;</c>, then <see cref="End"/>. The condition is looked at before each call.
/// </summary>
internal struct SharedMemoryPause(SharedMemoryWorld world, TimeSpan timeout)
{
    private static readonly TimeSpan SleepLimit = TimeSpan.FromMilliseconds(50), WorthAWarning = TimeSpan.FromSeconds(2);

    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly TimeSpan _spinLimit = TimeSpan.FromMicroseconds(world.Size <= Environment.ProcessorCount ? 1000 : 10);
    private int _spins;
    private int _armedDoorbell;
    private bool _passedHalf;

    /// <summary>Whether the next pause sleeps: the condition was looked at after <see cref="SharedMemoryWorld.Arm"/>.</summary>
    private bool _armed;

    /// <summary>Whether it is time for slow checks (is every process alive?): about each 50 ms of waiting.</summary>
    public bool IsSlow { get; private set; }

    /// <summary>Waits a little.</summary>
    /// <returns>False when the limit has passed.</returns>
    public bool Once()
    {
        if (_armed)
            return SleepOnce();
        if ((++_spins & 63) != 0 || Stopwatch.GetElapsedTime(_start) < _spinLimit)
        {
            Thread.SpinWait(_spins < 1000 ? 1 : 8);
            return true;
        }

        _armedDoorbell = world.Arm();
        _armed = true;
        return true;
    }

    /// <summary>True once, when half of a limit that a person would notice is over.</summary>
    public bool PassesHalf()
    {
        if (_passedHalf || timeout < WorthAWarning || Stopwatch.GetElapsedTime(_start) < timeout / 2)
            return false;
        return _passedHalf = true;
    }

    public void End()
    {
        if (_armed)
            world.Disarm();
        _armed = false;
    }

    private bool SleepOnce()
    {
        var left = timeout - Stopwatch.GetElapsedTime(_start);
        if (left <= TimeSpan.Zero)
            return false;
        world.Sleep(_armedDoorbell, left < SleepLimit ? left : SleepLimit);
        world.Disarm();
        _armedDoorbell = world.Arm();
        IsSlow = true;
        return true;
    }
}
