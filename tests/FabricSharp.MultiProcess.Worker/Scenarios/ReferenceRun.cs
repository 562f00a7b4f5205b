using FabricSharp.MultiProcess.Worker.Cases;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>
/// 100 steps of one of the four models with SGD, under Fabric or by one process that plays all ranks: forward and backward pass of each rank's batch, the
/// gradients times 1/N and summed in the order of the ranks, one step. Reports each step's mean loss and, for each parameter, norm and sum.
/// </summary>
internal static class ReferenceRun
{
    private const int Steps = 100;
    private const double LearningRate = 0.01;

    public static void Train(Settings settings)
    {
        var fabric = settings.Launch();
        var reference = ReferenceModel.Make(settings.Text("model"));
        var (model, optimizer) = fabric.Setup(reference.Model, optim.SGD(reference.Model.parameters().ToList(), LearningRate));
        var losses = new List<double>();
        for (var step = 0; step < Steps; step++)
        {
            using var scope = NewDisposeScope();
            optimizer.zero_grad();
            var loss = model.Invoke((nn.Module<Tensor, Tensor> net) => reference.Loss(net, step, fabric.GlobalRank));
            fabric.Backward(loss);
            optimizer.step();
            losses.Add(fabric.AllReduce(loss.item<float>()));
        }

        Report.Send(new { rank = fabric.GlobalRank, losses, parameters = Describe(reference.Model) });
    }

    public static void Record(Settings settings)
    {
        var ranks = settings.Number("ranks", 2);
        var reference = ReferenceModel.Make(settings.Text("model"));
        var parameters = reference.Model.parameters().ToArray();
        using var optimizer = optim.SGD(parameters, LearningRate);
        var losses = new List<double>();
        for (var step = 0; step < Steps; step++)
        {
            using var scope = NewDisposeScope();
            losses.Add(NaiveStep(reference, parameters, step, ranks));
            optimizer.step();
        }

        Report.Send(new { rank = 0, losses, parameters = Describe(reference.Model) });
    }

    /// <summary>
    /// Writes the first weights and every batch of a model to a file, for another framework to train on: parameters by their names, batches as
    /// <c>input.STEP.RANK</c> and, for the transformer, <c>target.STEP.RANK</c>.
    /// </summary>
    public static void Export(Settings settings)
    {
        var reference = ReferenceModel.Make(settings.Text("model"));
        var tensors = reference.Model.named_parameters().ToDictionary(p => p.name, p => (object?)p.parameter.detach());
        for (var step = 0; step < Steps; step++)
            for (var rank = 0; rank < settings.Number("ranks", 2); rank++)
                foreach (var (name, batch) in reference.Batch(step, rank))
                    tensors[$"{name}.{step}.{rank}"] = batch;
        Checkpointing.Checkpoint.Save(settings.Text("file"), tensors);
    }

    private static double NaiveStep(ReferenceModel reference, TorchSharp.Modules.Parameter[] parameters, int step, int ranks)
    {
        var sums = new Tensor?[parameters.Length];
        var total = 0.0;
        for (var rank = 0; rank < ranks; rank++)
        {
            reference.Model.zero_grad();
            var loss = reference.Loss(reference.Model, step, rank);
            loss.backward();
            total += loss.item<float>();
            for (var i = 0; i < parameters.Length; i++)
                if (parameters[i].grad is { } gradient)
                    sums[i] = sums[i] is { } sum ? sum + gradient * (1f / ranks) : gradient * (1f / ranks);
        }

        for (var i = 0; i < parameters.Length; i++)
            parameters[i].grad = sums[i];
        return total / ranks;
    }

    private static Dictionary<string, double[]> Describe(nn.Module model) => model.named_parameters().ToDictionary(p => p.name, p =>
    {
        using var scope = NewDisposeScope();
        var values = p.parameter.detach().to(ScalarType.Float64);
        return new[] { values.norm().item<double>(), values.sum().item<double>() };
    });
}
