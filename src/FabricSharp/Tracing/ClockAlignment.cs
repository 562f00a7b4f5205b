using System.Buffers.Binary;
using System.Diagnostics;
using System.IO.Hashing;
using System.Text;
using FabricSharp.Interop.Posix;

namespace FabricSharp.Tracing;

/// <summary>
/// How a rank's clock relates to rank 0's. An exchange of messages ends on no rank before it has begun on all; each round therefore bounds
/// the difference from both sides, by nothing but that, and the rounds' bounds are intersected. Clocks that drift apart later are not noticed.
/// Ranks of one machine have one monotonic clock: where the bounds agree with that, there is nothing to estimate.
/// </summary>
internal static class ClockAlignment
{
    public const int MessageBytes = 2 * sizeof(long);

    private const int Rounds = 128;

    /// <summary>Gives every rank's message to every rank.</summary>
    public delegate void Exchange(ReadOnlySpan<byte> mine, Span<byte> all);

    /// <summary>This process's monotonic clock in nanoseconds.</summary>
    public static long Now()
    {
        var ticks = Stopwatch.GetTimestamp();
        return Stopwatch.Frequency == 1_000_000_000 ? ticks : ticks / Stopwatch.Frequency * 1_000_000_000 + ticks % Stopwatch.Frequency * 1_000_000_000 / Stopwatch.Frequency;
    }

    /// <summary>A number that processes have in common which share a clock; 0 where that is not known.</summary>
    public static long ClockId() => BootId.Text.Length == 0 ? 0 : (long)XxHash3.HashToUInt64(Encoding.ASCII.GetBytes(BootId.Text));

    /// <summary>Measures. Collective.</summary>
    /// <param name="rank">This rank.</param>
    /// <param name="size">The number of ranks.</param>
    /// <param name="exchange">Collective.</param>
    /// <param name="now">This rank's clock in nanoseconds.</param>
    /// <param name="clockId">See <see cref="ClockId"/>.</param>
    /// <returns>This rank's zero in nanoseconds of its clock, the offset of times since that zero, and a number that tells the run from others.</returns>
    public static (long Zero, ClockOffset Offset, ulong Run) Measure(int rank, int size, Exchange exchange, Func<long> now, long clockId)
    {
        var all = new byte[MessageBytes * size];
        var (lower, upper) = (long.MinValue, long.MaxValue);
        var (entered, left) = Round(exchange, now, clockId, all); // the first round has no end to tell of yet
        var (zero, (enteredByRoot, clockOfRoot)) = (entered, Root(all));
        var (zeroOfRoot, run) = (enteredByRoot, (ulong)(enteredByRoot ^ clockOfRoot ^ 1));
        for (var round = 1; round <= Rounds; round++)
        {
            var (nextEntered, nextLeft) = Round(exchange, now, left, all);
            var (nextEnteredByRoot, leftByRoot) = Root(all);
            upper = Math.Min(upper, leftByRoot - entered); // rank 0 left the round before no earlier than this rank entered it
            lower = Math.Max(lower, enteredByRoot - left);
            (entered, left, enteredByRoot) = (nextEntered, nextLeft, nextEnteredByRoot);
        }

        var isShared = rank == 0 || (clockId != 0 && clockId == clockOfRoot && lower <= 0 && upper >= 0);
        var difference = isShared ? 0 : lower + (upper - lower) / 2;
        return (zero, new ClockOffset(difference + zero - zeroOfRoot, isShared ? 0 : Math.Max(0, (upper - lower + 1) / 2)), run);
    }

    private static (long Entered, long Left) Round(Exchange exchange, Func<long> now, long told, byte[] all)
    {
        Span<byte> mine = stackalloc byte[MessageBytes];
        var entered = now();
        BinaryPrimitives.WriteInt64LittleEndian(mine, entered);
        BinaryPrimitives.WriteInt64LittleEndian(mine[sizeof(long)..], told);
        exchange(mine, all);
        return (entered, now());
    }

    private static (long Entered, long Told) Root(byte[] all) => (BinaryPrimitives.ReadInt64LittleEndian(all), BinaryPrimitives.ReadInt64LittleEndian(all.AsSpan(sizeof(long))));
}
