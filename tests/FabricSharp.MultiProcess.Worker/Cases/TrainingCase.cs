using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.MultiProcess.Worker.Cases;

/// <summary>A model, and what a rank does with it in one step, up to the gradients.</summary>
/// <param name="Model">Makes the model; all ranks and the reference get the same values.</param>
/// <param name="Step">Runs forward and backward passes of step <c>step</c> as rank <c>rank</c>.</param>
internal sealed record TrainingCase(Func<Module<Tensor, Tensor>> Model, Action<ITrainee, Module<Tensor, Tensor>, int, int> Step)
{
    public static TrainingCase Find(string name) =>
        TrainingCases.All.TryGetValue(name, out var found) ? found : throw new ArgumentException($"Unknown case '{name}'. Known: {string.Join(", ", TrainingCases.All.Keys)}.");
}
