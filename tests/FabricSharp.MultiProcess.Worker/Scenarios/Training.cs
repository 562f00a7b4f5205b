using System.Security.Cryptography;
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
        var (model, optimizer) = fabric.Setup(net, Optimizer(net));
        Fabric.SeedEverything(3); // rank 0's numbers
        var reference = training.Model();
        var naive = Optimizer(reference);

        var trainee = new FabricTrainee(fabric, model);
        var nullGradientsAgree = true;
        for (var step = 0; step < steps; step++)
        {
            using var scope = NewDisposeScope();
            optimizer.zero_grad();
            training.Step(trainee, net, step, fabric.GlobalRank);
            optimizer.step();
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
            unused = model.UnusedParameters.Parameters.Select(p => p.Name),
            passes = model.UnusedParameters.Passes,
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

    private sealed class FabricTrainee(Fabric fabric, FabricModule<Tensor, Tensor> model) : ITrainee
    {
        public Tensor Forward(Tensor input) => model.call(input);

        public void Backward(Tensor loss, bool retainGraph) => fabric.Backward(loss, retainGraph);

        public IDisposable NoSync() => fabric.NoBackwardSync(model);
    }

    private sealed class ReferenceTrainee(Module<Tensor, Tensor> model) : ITrainee
    {
        public Tensor Forward(Tensor input) => model.call(input);

        public void Backward(Tensor loss, bool retainGraph) => loss.backward(retain_graph: retainGraph);

        public IDisposable NoSync() => NewDisposeScope();
    }
}
