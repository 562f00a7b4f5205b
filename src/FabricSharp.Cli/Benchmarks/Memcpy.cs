using System.Diagnostics;
using System.Runtime.InteropServices;

namespace FabricSharp.Cli.Benchmarks;

/// <summary>How fast one core copies memory that is not in its caches: what the bandwidth of a back end on one machine is to be seen against.</summary>
internal static unsafe class Memcpy
{
    private const long Bytes = 64 << 20;
    private const int Repetitions = 8;

    /// <summary>The best of a few, in GB (10⁹ bytes) per second.</summary>
    public static double GigabytesPerSecond()
    {
        var from = (byte*)NativeMemory.Alloc((nuint)Bytes);
        var to = (byte*)NativeMemory.Alloc((nuint)Bytes);
        NativeMemory.Fill(from, (nuint)Bytes, 1);
        NativeMemory.Fill(to, (nuint)Bytes, 2);
        var best = double.MaxValue;
        for (var i = 0; i < Repetitions; i++)
        {
            var start = Stopwatch.GetTimestamp();
            Buffer.MemoryCopy(from, to, Bytes, Bytes);
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        NativeMemory.Free(from);
        NativeMemory.Free(to);
        return Bytes / best / 1e9;
    }
}
