using System.Diagnostics;
using System.Text.Json;
using static TorchSharp.torch;

namespace FabricSharp.Scaling;

/// <summary>
/// All-reduce of float32, of any tensor (copied in and out) and of memory of the group, where buckets are; of the latter also with 16-bit types.
/// Medians; bandwidth is bytes ÷ time.
/// </summary>
internal static class AllReduceBenchmark
{
    public static readonly long[] Sizes = [4, 4 << 10, 64 << 10, 1 << 20, 4 << 20, 25 << 20, 100 << 20];

    public static void Run(int ranks, long[] sizes)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: ranks, strategy: "ddp");
        fabric.Launch();
        var group = fabric.Strategy.Group!;
        var memcpy = MemcpyBandwidth();
        if (fabric.IsGlobalZero)
            Console.Error.WriteLine($"memcpy of one core: {memcpy:F1} GB/s\n{"bytes",12} | {"tensor µs",10} {"GB/s",7} | {"bucket µs",10} {"GB/s",7} {"/memcpy",8} | {"bf16 GB/s",10} {"fp16 GB/s",10}");
        using var channel = group.CreateGradientChannel("benchmark", 64);
        using var buffer = channel.Allocate(sizes.Max());
        using var flat = buffer.AsTensor(ScalarType.Float32);
        foreach (var bytes in sizes)
        {
            var count = bytes / 4;
            using var tensor = ones(count);
            WarmUp(fabric, () => group.AllReduce(tensor).Wait());
            var any = Median(fabric, bytes, () => group.AllReduce(tensor).Wait());
            var bucket = Median(fabric, bytes, () => channel.Reduce(buffer, 0, count, ScalarType.Float32, 0.5).Wait());
            double Halves(ScalarType type)
            {
                void Reduce() => channel.Reduce(buffer, 0, (bytes + 1) / 2, type, 0.5).Wait();
                WarmUp(fabric, Reduce);
                return bytes / Median(fabric, bytes, Reduce) / 1e3;
            }

            var (bfloat16, float16) = (Halves(ScalarType.BFloat16), Halves(ScalarType.Float16));
            if (fabric.IsGlobalZero)
                Report(fabric.WorldSize, bytes, any, bucket, memcpy, bfloat16, float16);
        }
    }

    /// <summary>As long as the runtime takes to compile with all optimisations what is called often. All ranks stop after the same number.</summary>
    private static void WarmUp(Fabric fabric, Action operation)
    {
        var start = Stopwatch.GetTimestamp();
        do
        {
            for (var i = 0; i < 20; i++)
                operation();
        }
        while (fabric.AllReduce(Stopwatch.GetElapsedTime(start).TotalSeconds) < 0.4);
    }

    private static double Median(Fabric fabric, long bytes, Action operation)
    {
        var repetitions = bytes > 1 << 20 ? 30 : 2000;
        var times = new double[repetitions];
        for (var i = 0; i < repetitions; i++)
        {
            fabric.Barrier();
            var start = Stopwatch.GetTimestamp();
            operation();
            times[i] = Stopwatch.GetElapsedTime(start).TotalMicroseconds;
        }

        Array.Sort(times);
        return fabric.AllReduce(times[repetitions / 2]);
    }

    private static unsafe double MemcpyBandwidth()
    {
        const int Bytes = 100 << 20;
        using var from = ones(Bytes / 4);
        using var to = zeros(Bytes / 4);
        var best = double.MaxValue;
        for (var i = 0; i < 10; i++)
        {
            var start = Stopwatch.GetTimestamp();
            from.bytes.CopyTo(to.bytes);
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        return Bytes / best / 1e9;
    }

    private static void Report(int ranks, long bytes, double any, double bucket, double memcpy, double bfloat16, double float16)
    {
        var (anyRate, bucketRate) = (bytes / any / 1e3, bytes / bucket / 1e3);
        Console.Error.WriteLine($"{bytes,12:N0} | {any,10:F2} {anyRate,7:F2} | {bucket,10:F2} {bucketRate,7:F2} {bucketRate / memcpy,8:P0} | {bfloat16,10:F2} {float16,10:F2}");
        Console.WriteLine(JsonSerializer.Serialize(new { benchmark = "all_reduce", ranks, bytes, tensor_us = any, tensor_gbps = anyRate, bucket_us = bucket, bucket_gbps = bucketRate, memcpy_gbps = memcpy, bfloat16_gbps = bfloat16, float16_gbps = float16 }));
    }
}
