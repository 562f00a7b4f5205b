using System.Diagnostics;
using System.Globalization;
using FabricSharp.Collectives;
using FabricSharp.Strategies;
using TorchSharp;
using static TorchSharp.torch;

namespace FabricSharp.Cli.Benchmarks;

/// <summary>One rank of <c>fabric bench all-reduce</c>. The first one is started by the command, the others by it, as those of any program.</summary>
internal sealed class AllReduceBenchmark
{
    /// <summary>As long as the runtime takes to compile with all optimisations what is called often.</summary>
    private const double WarmUpSeconds = 0.4;

    private const int WarmUpCalls = 5;

    /// <summary>Elements that are filled and checked at once, so that large sizes do not take many times their memory.</summary>
    private const long ChunkElements = 1 << 20;

    private readonly AllReducePlan _plan;
    private readonly Fabric _fabric;
    private readonly ProcessGroup _group;

    private AllReduceBenchmark(AllReducePlan plan, Fabric fabric)
    {
        _plan = plan;
        _fabric = fabric;
        _group = fabric.Strategy.Group ?? throw new ArgumentException("A single rank has nobody to exchange data with: --ranks is 2 or more.");
    }

    /// <summary>Measures everything; rank 0 prints.</summary>
    /// <returns>The number of wrong elements, of all ranks together.</returns>
    public static long Run(AllReducePlan plan)
    {
        DeviceSelection devices = plan.Ranks is { } ranks ? ranks : "auto";
        using var fabric = new Fabric(accelerator: plan.Backend == "nccl" ? "cuda" : "cpu", devices: devices, strategy: new DDPStrategy(processGroupBackend: plan.Backend, timeout: TimeSpan.FromMinutes(2)));
        fabric.Launch();
        var wrong = new AllReduceBenchmark(plan, fabric).Run();
        fabric.Barrier(); // nobody leaves while another is in its last call
        return wrong;
    }

    private long Run()
    {
        if (!_plan.Json)
            Print(Heading());
        long wrong = 0;
        var bandwidths = new List<double>();
        foreach (var type in _plan.Types)
            foreach (var operation in _plan.Operations)
                foreach (var row in _plan.Sizes.Select(size => Measure(type, operation, size)))
                {
                    Print(_plan.Json ? row.ToJson(_plan.Memcpy) : row.ToText());
                    bandwidths.Add(row.BusBandwidth);
                    wrong += row.Wrong;
                }

        if (!_plan.Json)
            Print(string.Create(CultureInfo.InvariantCulture, $"# wrong elements: {wrong} {(wrong == 0 ? "OK" : "FAILED")}\n# average bus bandwidth: {bandwidths.Average():F2} GB/s; memcpy of one core: {_plan.Memcpy:F2} GB/s"));
        return wrong;
    }

    private string Heading() => string.Create(
        CultureInfo.InvariantCulture,
        $"# all-reduce: back end {_group.Backend}, {_group.Size} ranks on {_fabric.Device.type.ToString().ToLowerInvariant()}, {_plan.Iterations} iterations, in place; {Environment.ProcessorCount} cores\n# memcpy of one core: {_plan.Memcpy:F2} GB/s\n{AllReduceRow.Header}");

    private AllReduceRow Measure(string typeName, string operationName, long size)
    {
        using var scope = NewDisposeScope();
        var (type, operation) = (ElementTypes.Of(typeName), ReduceOperations.Of(operationName));
        var count = Math.Max(1, size / ElementTypes.BytesOf(type));
        var data = zeros(count, type, _fabric.Device);
        WarmUp(data, operation.Op);
        var time = Time(data, operation.Op);
        Fill(data, operation);
        Reduce(data, operation.Op);
        var wrong = (long)_fabric.AllReduce((double)CountWrong(data, operation), "sum");
        return new AllReduceRow(_group.Backend, _group.Size, count * ElementTypes.BytesOf(type), count, typeName, operationName, time, wrong);
    }

    /// <summary>All ranks stop after the same number of calls.</summary>
    private void WarmUp(Tensor data, ReduceOp op)
    {
        var start = Stopwatch.GetTimestamp();
        do
        {
            for (var i = 0; i < WarmUpCalls; i++)
                Reduce(data, op);
        }
        while (data.numel() <= ChunkElements / 16 && _fabric.AllReduce(Stopwatch.GetElapsedTime(start).TotalSeconds) < WarmUpSeconds / _plan.Sizes.Length);
    }

    /// <summary>Microseconds of a call, the mean over the iterations, of the slowest rank.</summary>
    private double Time(Tensor data, ReduceOp op)
    {
        _fabric.Barrier();
        var start = Stopwatch.GetTimestamp();
        for (var i = 0; i < _plan.Iterations; i++)
            Reduce(data, op);
        using var mean = tensor(Stopwatch.GetElapsedTime(start).TotalMicroseconds / _plan.Iterations, ScalarType.Float64, _fabric.Device);
        _group.AllReduce(mean, ReduceOp.Max).Wait();
        return mean.ToDouble();
    }

    private void Reduce(Tensor data, ReduceOp op)
    {
        _group.AllReduce(data, op).Wait();
        if (data.device_type == DeviceType.CUDA)
            cuda.synchronize();
    }

    private void Fill(Tensor data, ReduceOperation operation) => ForEachChunk(data, (part, index) =>
    {
        part.copy_(operation.ValueAt(index, _group.Rank, _group.Size));
        return 0;
    });

    private long CountWrong(Tensor data, ReduceOperation operation) => ForEachChunk(data, (part, index) =>
    {
        var expected = Enumerable.Range(0, _group.Size).Select(rank => operation.ValueAt(index, rank, _group.Size)).Aggregate(operation.Combine);
        if (operation.Op != ReduceOp.Average)
            return part.ne(expected.to(part.dtype)).sum().ToInt64();
        var difference = (part.to(ScalarType.Float64) - expected.to(ScalarType.Float64) / _group.Size).abs();
        return difference.gt(Tolerance(part.dtype)).sum().ToInt64(); // rounded, once or twice
    });

    /// <summary>Of averages, which are below 5.</summary>
    private static double Tolerance(ScalarType type) => type switch
    {
        ScalarType.BFloat16 => 5.0 / 128,
        ScalarType.Float16 => 5.0 / 1024,
        ScalarType.Float64 => 1e-12,
        _ => 1e-5,
    };

    private static long ForEachChunk(Tensor data, Func<Tensor, Tensor, long> action)
    {
        long sum = 0;
        for (long begin = 0; begin < data.numel(); begin += ChunkElements)
        {
            using var scope = NewDisposeScope();
            var length = Math.Min(ChunkElements, data.numel() - begin);
            sum += action(data.narrow(0, begin, length), arange(begin, begin + length, ScalarType.Int64, data.device));
        }

        return sum;
    }

    private void Print(string text)
    {
        if (!_fabric.IsGlobalZero)
            return;
        Console.WriteLine(text);
        Console.Out.Flush();
    }
}
