using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.Examples.FashionMnist;

/// <summary>
/// A convolutional trunk and four branches. A training step takes one branch, at random; the parameters of the other three get no
/// gradient in that step. Evaluation averages what all four say.
/// </summary>
internal sealed class BranchingNet : Module<Tensor, Tensor>
{
    private const int BranchCount = 4;

    private readonly Sequential trunk = Sequential(
        Conv2d(1, 16, 3), ReLU(), MaxPool2d(2),
        Conv2d(16, 32, 3), ReLU(), MaxPool2d(2),
        Flatten());

    private readonly ModuleList<Module<Tensor, Tensor>> branches = ModuleList(
        Enumerable.Range(0, BranchCount).Select(_ => (Module<Tensor, Tensor>)Sequential(Linear(32 * 5 * 5, 64), ReLU(), Linear(64, 10))).ToArray());

    private readonly Random choice;

    /// <param name="branchSeed">Another one on each rank: then the ranks take different branches in the same step.</param>
    public BranchingNet(int branchSeed)
        : base(nameof(BranchingNet))
    {
        choice = new Random(branchSeed);
        RegisterComponents();
    }

    /// <summary>Images (batch, 1, 28, 28) to scores (batch, 10).</summary>
    public override Tensor forward(Tensor images)
    {
        var features = trunk.call(images);
        return training
            ? branches[choice.Next(BranchCount)].call(features)
            : stack(branches.Select(branch => branch.call(features).softmax(1))).mean([0]);
    }
}
