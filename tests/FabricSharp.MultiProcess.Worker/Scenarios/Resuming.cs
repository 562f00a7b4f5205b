using FabricSharp.Checkpointing;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>
/// Trains for three epochs with everything that has a state: shuffled data, dropout with other numbers on each rank, a schedule, a precision. Saves after
/// the steps of <c>save-every</c>, ends without a word (as by <c>kill -9</c>) before step <c>die</c>, and resumes with <c>resume=true</c>.
/// </summary>
internal static class Resuming
{
    public static void Run(Settings settings)
    {
        using var fabric = settings.Launch();
        Fabric.SeedEverything(settings.Number("seed", 5));
        using var net = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.25), nn.Linear(16, 1));
        var (model, optimizer) = fabric.Setup(net, optim.AdamW(net.parameters(), 0.02));
        var scheduler = optim.lr_scheduler.OneCycleLR(optimizer.Optimizer, 0.05, total_steps: 40);
        var loader = fabric.SetupDataLoaders(utils.data.DataLoader(new Points(), 4, shuffle: true));
        random.manual_seed(1000 + fabric.GlobalRank);
        var state = new Dictionary<string, object?>
        {
            ["model"] = model, ["optimizer"] = optimizer, ["scheduler"] = scheduler, ["loader"] = loader, ["random"] = new RandomState(), ["step"] = -1,
            ["scaler"] = fabric.Precision.Scaler,
        };
        var stem = Path.Combine(settings.Text("path"), "step-");
        if (settings.Flag("resume"))
            fabric.Load(Checkpoint.Latest(stem) ?? throw new InvalidOperationException("nothing to resume from"), state);
        var (first, losses) = ((int)state["step"]! + 1, new List<float>());
        for (var epoch = loader.State.Epoch; epoch < 3; epoch++)
            foreach (var batch in loader)
            {
                var step = (int)state["step"]! + 1;
                if (step == settings.Number("die", -1))
                    System.Diagnostics.Process.GetCurrentProcess().Kill();
                losses.Add(Step(fabric, model, optimizer, batch["x"]));
                scheduler.step();
                state["step"] = step;
                if (step % settings.Number("save-every", int.MaxValue) == 0)
                    Save(fabric, settings, $"{stem}{step}", state);
            }

        Report.Send(new { rank = fabric.GlobalRank, first, losses, rate = optimizer.ParamGroups.First().LearningRate, random = rand(1).item<float>() });
    }

    private static float Step(Fabric fabric, FabricModule<Tensor, Tensor> model, FabricOptimizer optimizer, Tensor input)
    {
        using var scope = NewDisposeScope();
        optimizer.zero_grad();
        var loss = (model.call(input) - 1).pow(2).mean();
        fabric.Backward(loss);
        optimizer.step();
        return loss.item<float>();
    }

    private static void Save(Fabric fabric, Settings settings, string path, Dictionary<string, object?> state)
    {
        if (settings.Flag("async"))
            fabric.SaveAsync(path, state, keepLast: 2);
        else
            fabric.Save(path, state, keepLast: 2);
    }

    private sealed class Points : utils.data.Dataset
    {
        public override long Count => 60;

        public override Dictionary<string, Tensor> GetTensor(long index) => new() { ["x"] = full([4], index * 0.05f).sin() };
    }
}
