using System.Diagnostics;
using System.Text.Json;
using FabricSharp.Strategies;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Scaling;

/// <summary>
/// One training step in variants, in blocks that take turns: independent copies of the model (no communication, so both cores are
/// loaded alike), DDP, DDP with findUnusedParameters, and copies that meet at a barrier in each step: what waiting for the slower rank costs by itself,
/// without a byte of gradients; if wanted also DDP that records a time line. Times are means over the ranks, medians over rounds; ratios are taken within a round.
/// </summary>
internal static class StepBenchmark
{
    private const int WarmUpSteps = 12;

    public static void Run(int ranks, string[] models, int rounds, double cap, bool trace)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: ranks, strategy: new DDPStrategy(bucketCapMb: cap));
        fabric.Launch();
        var flagged = new DDPStrategy(findUnusedParameters: true, bucketCapMb: cap);
        flagged.Attach(fabric.Strategy.Plan);
        flagged.Share(fabric.Strategy.Group!);
        var traced = trace ? new DDPStrategy(bucketCapMb: cap) { Trace = Path.Combine(Path.GetTempPath(), "fabric-trace-benchmark") } : null;
        traced?.Attach(fabric.Strategy.Plan);
        traced?.Share(fabric.Strategy.Group!);
        if (fabric.IsGlobalZero)
            Console.Error.WriteLine($"{"model",-8} {"params",6} {"MB",6} | {"copies ms",10} {"ddp ms",10} {"flag ms",10} | {"ddp/copies",10} {"flag/copies",11} {"flag-ddp µs",11} | {"barrier/copies",14} {"exposed µs",10} {"overlap µs",10}{(trace ? $" {"trace/ddp",10}" : "")}");
        foreach (var name in models)
            Measure(fabric, flagged, traced, name, rounds);
    }

    private static void Measure(Fabric fabric, DDPStrategy flagged, DDPStrategy? traced, string name, int rounds)
    {
        var plain = ModelCase.Make(name);
        var regular = ModelCase.Make(name);
        var unused = ModelCase.Make(name);
        var variants = new List<Variant> { new Copy(plain) };
        variants.Add(regular.UsesEverything ? new Replica(regular, fabric.Strategy) : new Skipped(regular));
        variants.Add(new Replica(unused, flagged));
        variants.Add(new Copy(ModelCase.Make(name), fabric.Barrier));
        if (traced is not null && regular.UsesEverything)
            variants.Add(new Replica(ModelCase.Make(name), traced));
        foreach (var variant in variants)
            variant.Run(WarmUpSteps);
        for (var round = 0; round < rounds; round++)
            foreach (var variant in round % 2 == 0 ? variants : variants.AsEnumerable().Reverse())
            {
                fabric.Barrier();
                var start = Stopwatch.GetTimestamp();
                variant.Run(plain.StepsPerBlock);
                var milliseconds = Stopwatch.GetElapsedTime(start).TotalMilliseconds / plain.StepsPerBlock;
                var mean = fabric.AllReduce(milliseconds);
                if (variant is not Skipped)
                    variant.Times.Add(mean);
            }

        if (fabric.IsGlobalZero)
            Report(plain, fabric.WorldSize, variants);
        variants.ForEach(variant => variant.Dispose());
    }

    private static void Report(ModelCase model, int ranks, List<Variant> variants)
    {
        var (copies, ddp, flag) = (variants[0].Median, variants[1].Median, variants[2].Median);
        var (ddpRatio, flagRatio) = (variants[1].RatioTo(variants[0]), variants[2].RatioTo(variants[0]));
        var extra = variants[2].ExtraOver(variants[1]);
        var traceRatio = variants.Count > 4 ? variants[4].RatioTo(variants[1]) : (double?)null;
        var barrier = variants[3].RatioTo(variants[0]);
        var parts = variants.OfType<Replica>().First().Data.AverageStep;
        var parameters = model.Model.parameters().ToList();
        var megabytes = parameters.Sum(p => p.numel() * 4) / 1e6;
        Console.Error.WriteLine($"{model.Name,-8} {parameters.Count,6} {megabytes,6:F1} | {copies,10:F3} {ddp,10:F3} {flag,10:F3} | {ddpRatio,10:F3} {flagRatio,11:F3} {extra * 1000,11:F1} | {barrier,14:F3} {parts.ExposedCommunication.TotalMicroseconds,10:F0} {parts.Overlap.TotalMicroseconds,10:F0}{(traceRatio is { } ratio ? $" {ratio,10:F3}" : "")}");
        Console.WriteLine(JsonSerializer.Serialize(new
        {
            benchmark = "ddp_step",
            model = model.Name,
            ranks,
            parameters = parameters.Count,
            megabytes,
            copies_ms = copies,
            ddp_ms = double.IsNaN(ddp) ? (double?)null : ddp,
            ddp_find_unused_ms = flag,
            ddp_over_copies = double.IsNaN(ddp) ? (double?)null : ddpRatio,
            find_unused_over_copies = flagRatio,
            trace_over_ddp = traceRatio,
            find_unused_extra_us = double.IsNaN(ddp) ? (double?)null : extra * 1000,
            barrier_over_copies = barrier,
            exposed_communication_us = parts.ExposedCommunication.TotalMicroseconds,
            overlapped_communication_us = parts.Overlap.TotalMicroseconds,
        }));
    }

    private abstract class Variant(ModelCase model) : IDisposable
    {
        private int _step;

        public List<double> Times { get; } = [];

        public double Median => MedianOf(Times);

        /// <summary>Of the blocks of one round, which the machine's moods meet alike.</summary>
        public double RatioTo(Variant other) => MedianOf(Times.Zip(other.Times, (mine, its) => mine / its));

        public double ExtraOver(Variant other) => MedianOf(Times.Zip(other.Times, (mine, its) => mine - its));

        public virtual void Run(int steps)
        {
            for (var i = 0; i < steps; i++)
            {
                using var scope = NewDisposeScope();
                model.BeforeStep?.Invoke(_step++);
                Step();
            }
        }

        protected abstract void Step();

        private static double MedianOf(IEnumerable<double> values) => values.Order().ToList() is { Count: > 0 } sorted ? sorted[sorted.Count / 2] : double.NaN;

        public virtual void Dispose() => model.Model.Dispose();
    }

    private sealed class Copy(ModelCase model, Action? meet = null) : Variant(model)
    {
        private readonly ModelCase _model = model;
        private readonly Parameter[] _parameters = [.. model.Model.parameters()];
        private readonly optim.Optimizer _optimizer = optim.SGD(model.Model.parameters().ToList(), 0.01);

        protected override void Step()
        {
            foreach (var parameter in _parameters)
                parameter.grad = null;
            _model.Loss(_model.Model.call(_model.Input)).backward();
            meet?.Invoke();
            _optimizer.step();
        }
    }

    private sealed class Replica : Variant
    {
        private readonly ModelCase _model;
        private readonly Strategy _strategy;
        private readonly FabricModule<Tensor, Tensor> _module;
        private readonly FabricOptimizer _optimizer;

        public Replica(ModelCase model, Strategy strategy)
            : base(model)
        {
            _model = model;
            _strategy = strategy;
            var handler = strategy.SetupModule(model.Model);
            _module = new FabricModule<Tensor, Tensor>(model.Model, handler);
            _optimizer = FabricOptimizer.Wrap(optim.SGD(model.Model.parameters().ToList(), 0.01), strategy, () => [handler], scaled: null, stepped: () => { });
        }

        public DataParallel.DDPLoggingData Data => _module.GetLoggingData();

        protected override void Step()
        {
            _optimizer.zero_grad();
            _strategy.Backward(_model.Loss(_module.call(_model.Input)), retainGraph: false);
            _optimizer.step();
        }

        public override void Dispose()
        {
            _module.Dispose();
            base.Dispose();
        }
    }

    /// <summary>A variant that cannot run: without the flag a model with unused parameters is an error.</summary>
    private sealed class Skipped(ModelCase model) : Variant(model)
    {
        public override void Run(int steps)
        {
        }

        protected override void Step()
        {
        }
    }
}
