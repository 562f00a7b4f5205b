using FabricSharp.MultiProcess.Worker.Cases;
using FabricSharp.Strategies;
using static TorchSharp.torch.nn;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Ranks that set up different things.</summary>
internal static class SetupFailures
{
    public static void ModelsDiffer(Settings settings)
    {
        var fabric = settings.Launch();
        var odd = fabric.GlobalRank == fabric.WorldSize - 1;
        var model = settings.Text("how") switch
        {
            "shape" => Sequential(Linear(8, 8), Linear(8, odd ? 5 : 4)),
            "count" => odd ? Sequential(Linear(8, 8), Linear(8, 4), Linear(4, 4)) : Sequential(Linear(8, 8), Linear(8, 4)),
            "dtype" => Sequential(Linear(8, 8), Linear(8, 4, dtype: odd ? TorchSharp.torch.ScalarType.Float64 : TorchSharp.torch.ScalarType.Float32)),
            "frozen" => Frozen(Sequential(Linear(8, 8), Linear(8, 4)), odd),
            "nothing" => Frozen(Sequential(Linear(8, 8)), true),
            var how => throw new ArgumentException($"Unknown difference '{how}'."),
        };
        Report.Outcome(fabric.GlobalRank, () => fabric.Setup(model));
    }

    /// <summary>One rank with the flag, the others without.</summary>
    public static void OptionsDiffer(Settings settings)
    {
        var rank = int.Parse(Environment.GetEnvironmentVariable("LOCAL_RANK") ?? "0", System.Globalization.CultureInfo.InvariantCulture);
        var fabric = new Fabric(accelerator: "cpu", devices: settings.Number("ranks", 2), strategy: new DDPStrategy(findUnusedParameters: rank == 1));
        fabric.Launch();
        Report.Outcome(fabric.GlobalRank, () => fabric.Setup(new Branching()));
    }

    private static TorchSharp.Modules.Sequential Frozen(TorchSharp.Modules.Sequential model, bool everything)
    {
        foreach (var parameter in model.parameters())
            parameter.requires_grad = !everything;
        return model;
    }
}
