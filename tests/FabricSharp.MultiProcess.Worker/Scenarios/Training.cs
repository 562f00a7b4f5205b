using System.Security.Cryptography;
using FabricSharp.DataParallel;
using FabricSharp.Interop.LibTorch;
using FabricSharp.MultiProcess.Worker.Cases;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>
/// Trains a case under Fabric and, on the same rank, by a naive reference that plays all ranks one after the other and divides the sum
/// of their gradients. Reports how far the parameters are apart, and a hash that must be the same on all ranks.
/// </summary>
internal static class Training
{
    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        TrainingCases.Width = settings.Number("width", 8);
        var training = TrainingCase.Find(settings.Text("case"));
        var steps = settings.Number("steps", 12);
        Fabric.SeedEverything(3 + fabric.GlobalRank); // replicas start different: Setup must make them equal
        var net = training.Model();
        using var trainee = settings.Flag("alone") ? (Trainee)new DataParallelTrainee(fabric, net, settings) : new FabricTrainee(fabric, net);
        Fabric.SeedEverything(3); // rank 0's numbers
        var reference = training.Model();
        var naive = Optimizer(reference);

        var nullGradientsAgree = true;
        for (var step = 0; step < steps; step++)
        {
            using var scope = NewDisposeScope();
            trainee.ZeroGradients();
            training.Step(trainee, net, step, fabric.GlobalRank);
            trainee.Update();
            ReferenceStep(training, reference, naive, step, fabric.WorldSize);
            nullGradientsAgree &= GradientsAgree(net, reference);
        }

        Report.Send(new
        {
            rank = fabric.GlobalRank,
            world = fabric.WorldSize,
            hooks = GradientHooks.IsSupported,
            allocator = CpuAllocator.IsSupported,
            difference = LargestDifference(net, reference),
            hash = Hash(net),
            nullGradientsAgree,
            unused = trainee.Data.UnusedParameters.Parameters.Select(p => p.Name),
            passes = trainee.Data.UnusedParameters.Passes,
            exchanges = trainee.Data.Logging.ControlExchanges,
            sent = trainee.Data.Logging.BytesSent,
            saved = trainee.Data.Logging.BytesSaved,
        });
    }

    private static optim.Optimizer Optimizer(Module<Tensor, Tensor> model) =>
        optim.SGD(model.parameters().Where(p => p.requires_grad).ToList(), 0.05, momentum: 0.9, weight_decay: 1e-3);

    private static void ReferenceStep(TrainingCase training, Module<Tensor, Tensor> reference, optim.Optimizer optimizer, int step, int worldSize)
    {
        var parameters = reference.parameters().ToArray();
        var sums = new Tensor?[parameters.Length];
        for (var rank = 0; rank < worldSize; rank++)
        {
            reference.zero_grad(); // each rank by itself: gradients of one backward pass may share their memory
            training.Step(new ReferenceTrainee(reference), reference, step, rank);
            for (var i = 0; i < parameters.Length; i++)
                if (parameters[i].grad is { } gradient)
                    sums[i] = sums[i] is { } sum ? sum + gradient : gradient.clone();
        }

        for (var i = 0; i < parameters.Length; i++)
            parameters[i].grad = sums[i]?.div(worldSize);
        optimizer.step();
    }

    /// <summary>Where no rank used a parameter there is no gradient; elsewhere it is the average.</summary>
    private static bool GradientsAgree(Module<Tensor, Tensor> net, Module<Tensor, Tensor> reference) =>
        net.parameters().Zip(reference.parameters()).All(pair => (pair.First.grad is null) == (pair.Second.grad is null)
            && (pair.First.grad is null || pair.First.numel() == 0 || RelativeDifference(pair.First.grad, pair.Second.grad!) < 1e-4));

    private static double LargestDifference(Module<Tensor, Tensor> net, Module<Tensor, Tensor> reference) =>
        net.parameters().Zip(reference.parameters()).Where(pair => pair.First.numel() > 0).Max(pair => RelativeDifference(pair.First, pair.Second));

    private static double RelativeDifference(Tensor actual, Tensor expected)
    {
        using var scope = NewDisposeScope();
        var scale = expected.detach().abs().max().to(ScalarType.Float64).item<double>();
        return (actual.detach() - expected.detach()).abs().max().to(ScalarType.Float64).item<double>() / Math.Max(scale, 1e-3);
    }

    private static string Hash(Module<Tensor, Tensor> net)
    {
        using var scope = NewDisposeScope();
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var parameter in net.parameters())
            if (parameter.numel() > 0)
                hash.AppendData(parameter.detach().contiguous().bytes);
        return Convert.ToHexString(hash.GetHashAndReset());
    }

    private abstract class Trainee : ITrainee, IDisposable
    {
        public abstract (UnusedParameterReport UnusedParameters, DDPLoggingData Logging) Data { get; }

        public abstract Tensor Forward(Tensor input);

        public abstract void Backward(Tensor loss, bool retainGraph = false);

        public abstract IDisposable NoSync();

        public abstract void ZeroGradients();

        public abstract void Update();

        public virtual void Dispose()
        {
        }
    }

    private sealed class FabricTrainee : Trainee
    {
        private readonly Fabric _fabric;
        private readonly FabricModule<Tensor, Tensor> _model;
        private readonly FabricOptimizer _optimizer;

        public FabricTrainee(Fabric fabric, Module<Tensor, Tensor> net)
        {
            _fabric = fabric;
            (_model, _optimizer) = fabric.Setup(net, Optimizer(net));
        }

        public override (UnusedParameterReport, DDPLoggingData) Data => (_model.UnusedParameters, _model.GetLoggingData());

        public override Tensor Forward(Tensor input) => _model.call(input);

        public override void Backward(Tensor loss, bool retainGraph = false) => _fabric.Backward(loss, retainGraph);

        public override IDisposable NoSync() => _fabric.NoBackwardSync(_model);

        public override void ZeroGradients() => _optimizer.zero_grad();

        public override void Update() => _optimizer.step();
    }

    /// <summary>Without the façade: Fabric only makes the processes and their group.</summary>
    private sealed class DataParallelTrainee(Fabric fabric, Module<Tensor, Tensor> net, Settings settings) : Trainee
    {
        private readonly optim.Optimizer _optimizer = Optimizer(net);
        private readonly DistributedDataParallel<Tensor, Tensor> _model = new(net, fabric.Strategy.Group!, new DDPOptions
        {
            FindUnusedParameters = settings.Flag("flag"),
            StaticGraph = settings.Flag("static"),
            CommunicationHook = settings.Hook(),
            Timeout = TimeSpan.FromSeconds(30),
        });

        public override (UnusedParameterReport, DDPLoggingData) Data => (_model.UnusedParameters, _model.GetLoggingData());

        public override Tensor Forward(Tensor input) => _model.call(input);

        public override void Backward(Tensor loss, bool retainGraph = false) => _model.Backward(loss, retainGraph);

        public override IDisposable NoSync() => _model.NoSync();

        public override void ZeroGradients() => net.zero_grad();

        public override void Update()
        {
            _model.EnsureReduced();
            _optimizer.step();
        }

        public override void Dispose() => _model.Dispose();
    }

    private sealed class ReferenceTrainee(Module<Tensor, Tensor> model) : ITrainee
    {
        public Tensor Forward(Tensor input) => model.call(input);

        public void Backward(Tensor loss, bool retainGraph) => loss.backward(retain_graph: retainGraph);

        public IDisposable NoSync() => NewDisposeScope();
    }
}
