using System.Diagnostics;
using System.Text.Json;
using FabricSharp.Collectives;
using static TorchSharp.torch;

namespace FabricSharp.Scaling;

/// <summary>
/// All-reduce of float32, of any tensor (copied in and out) and of memory of the group, where buckets are; of the latter also with 16-bit types.
/// Medians; bandwidth is bytes ÷ time.
/// </summary>
internal static class AllReduceBenchmark
{
    public static readonly long[] Sizes = [4, 4 << 10, 64 << 10, 1 << 20, 4 << 20, 25 << 20, 100 << 20];

    /// <summary>Back ends take turns at each size; shm keeps the ranks in step between measurements of any.</summary>
    public static void Run(int ranks, long[] sizes, string[] backends)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: ranks, strategy: "ddp");
        fabric.Launch();
        var memcpy = MemcpyBandwidth();
        if (fabric.IsGlobalZero)
            Console.Error.WriteLine($"memcpy of one core: {memcpy:F1} GB/s\n{"bytes",12} {"",-4} | {"tensor µs",10} {"GB/s",7} | {"bucket µs",10} {"GB/s",7} {"/memcpy",8} | {"bf16 GB/s",10} {"fp16 GB/s",10}");
        var contestants = backends.Select(backend => new Contestant(fabric, backend, sizes.Max())).ToList();
        foreach (var bytes in sizes)
            foreach (var contestant in contestants)
                contestant.Measure(bytes, memcpy);
        contestants.ForEach(contestant => contestant.Dispose());
    }

    /// <summary>A back end with a bucket.</summary>
    private sealed class Contestant : IDisposable
    {
        private readonly Fabric _fabric;
        private readonly ProcessGroup _group;
        private readonly GradientChannel _channel;
        private readonly GradientBuffer _buffer;
        private readonly Tensor _flat;

        public Contestant(Fabric fabric, string backend, long bytes)
        {
            _fabric = fabric;
            _group = backend == fabric.Strategy.Group!.Backend ? fabric.Strategy.Group : ProcessGroup.Create(backend, new HashStore(), fabric.GlobalRank, fabric.WorldSize);
            _channel = _group.CreateGradientChannel("benchmark", 64);
            _buffer = _channel.Allocate(bytes);
            _flat = _buffer.AsTensor(ScalarType.Float32);
        }

        public void Measure(long bytes, double memcpy)
        {
            var count = bytes / 4;
            using var tensor = ones(count);
            WarmUp(_fabric, () => _group.AllReduce(tensor).Wait());
            var any = Median(_fabric, bytes, () => _group.AllReduce(tensor).Wait());
            var bucket = Median(_fabric, bytes, () => _channel.Reduce(_buffer, 0, count, ScalarType.Float32, 0.5).Wait());
            var (bfloat16, float16) = (Halves(bytes, ScalarType.BFloat16), Halves(bytes, ScalarType.Float16));
            if (_fabric.IsGlobalZero)
                Report(_group.Backend, _fabric.WorldSize, bytes, any, bucket, memcpy, bfloat16, float16);
        }

        /// <summary>GB/s of a bucket of 16-bit numbers.</summary>
        private double Halves(long bytes, ScalarType type)
        {
            void Reduce() => _channel.Reduce(_buffer, 0, (bytes + 1) / 2, type, 0.5).Wait();
            WarmUp(_fabric, Reduce);
            return bytes / Median(_fabric, bytes, Reduce) / 1e3;
        }

        public void Dispose()
        {
            _flat.Dispose();
            _buffer.Dispose();
            _channel.Dispose();
            if (_group != _fabric.Strategy.Group)
                _group.Dispose();
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

    private static void Report(string backend, int ranks, long bytes, double any, double bucket, double memcpy, double bfloat16, double float16)
    {
        var (anyRate, bucketRate) = (bytes / any / 1e3, bytes / bucket / 1e3);
        Console.Error.WriteLine($"{bytes,12:N0} {backend,-4} | {any,10:F2} {anyRate,7:F2} | {bucket,10:F2} {bucketRate,7:F2} {bucketRate / memcpy,8:P0} | {bfloat16,10:F2} {float16,10:F2}");
        Console.WriteLine(JsonSerializer.Serialize(new { benchmark = "all_reduce", backend, ranks, bytes, tensor_us = any, tensor_gbps = anyRate, bucket_us = bucket, bucket_gbps = bucketRate, memcpy_gbps = memcpy, bfloat16_gbps = bfloat16, float16_gbps = float16 }));
    }
}
