using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.MultiProcess.Worker.Cases;

/// <summary>The cases by name. Each is trained under Fabric and by a naive reference, and must give the same parameters.</summary>
internal static class TrainingCases
{
    /// <summary>Of hidden layers. From 128 on, gradients are large enough to be averaged where they are born.</summary>
    public static int Width { get; set; } = 8;

    public static IReadOnlyDictionary<string, TrainingCase> All { get; } = new Dictionary<string, TrainingCase>
    {
        ["mlp"] = OneLoss(() => Mlp(8, 2 * Width, 2 * Width, 4), (step, rank) => Noise(step, rank, 6, 8)),
        ["deep"] = OneLoss(() => Mlp([8, .. Enumerable.Repeat(8, 60)]), (step, rank) => Noise(step, rank, 3, 8)),
        ["unused-everywhere"] = Branches((_, _) => 0),
        ["unused-changes"] = Branches((step, _) => step % 3),
        ["unused-differs"] = Branches((step, rank) => (step + rank) % 3),
        ["unused-sometimes"] = Branches((step, _) => step < 5 ? -1 : step % 3),
        ["nothing-used-on-one-rank"] = new(() => Mlp(8, Width, Width, 4), LossOfNothing),
        ["no-backward-on-one-rank"] = new(() => Mlp(8, Width, Width, 4), BackwardOnRankZeroOnly),
        ["used-twice"] = OneLoss(() => new Tied(Width), (step, rank) => Noise(step, rank, 5, 8)),
        ["two-backwards-of-one-forward"] = new(() => Mlp(8, Width, Width, 4), TwoBackwardsOfOneForward),
        ["two-forwards-two-backwards"] = new(() => Mlp(8, Width, Width, 4), TwoForwardsTwoBackwards),
        ["two-forwards-one-backward"] = new(() => Mlp(8, Width, Width, 4), TwoForwardsOneBackward),
        ["no-sync"] = new(() => Mlp(8, Width, Width, 4), Accumulate),
        ["no-sync-branch"] = new(() => new Branching(Width), AccumulateOtherBranch),
        ["frozen"] = OneLoss(Frozen, (step, rank) => Noise(step, rank, 6, 8)),
        ["lstm"] = OneLoss(() => new Recurrent(), (step, rank) => Noise(step, rank, 3, 5, 6)),
        ["embedding"] = OneLoss(() => new Words(), (step, rank) => Indices(step, rank, 20, 3, 7)),
        ["attention"] = OneLoss(() => new Attention(), (step, rank) => Noise(step, rank, 4, 3, 8)),
        ["convolution"] = OneLoss(() => Convolution(channelsLast: false), (step, rank) => Noise(step, rank, 4, 3, 8, 8)),
        ["channels-last"] = OneLoss(() => Convolution(channelsLast: true), (step, rank) => Noise(step, rank, 4, 3, 8, 8)),
        ["mixed-types"] = OneLoss(() => new MixedTypes(), (step, rank) => Noise(step, rank, 4, 8)),
        ["scalar-and-empty"] = OneLoss(() => new OddSizes(), (step, rank) => Noise(step, rank, 4, 8)),
        ["kept-gradients"] = new(() => Mlp(8, Width, Width, 4), KeepGradients),
        ["positional"] = OneLoss(() => new Positional(), (step, rank) => Noise(step, rank, 1, 64, 8)),
        ["two-views"] = OneLoss(() => new TwoViews(), (step, rank) => Noise(step, rank, 64, 8)),
        ["empty-share"] = new(() => Mlp(8, Width, Width, 4), EmptyLastShare),
    };

    /// <summary>The same numbers for the same step and rank, wherever they are made.</summary>
    private static Tensor Noise(int step, int rank, params long[] shape)
    {
        using var generator = new Generator((ulong)(1000 * step + rank + 1));
        return randn(shape, generator: generator);
    }

    private static Tensor Indices(int step, int rank, long limit, params long[] shape)
    {
        using var generator = new Generator((ulong)(1000 * step + rank + 1));
        return randint(limit, shape, generator: generator, dtype: ScalarType.Int64);
    }

    private static Tensor Loss(Tensor output) => output.pow(2).mean() + output.mean();

    private static TrainingCase OneLoss(Func<Module<Tensor, Tensor>> model, Func<int, int, Tensor> input) =>
        new(model, (trainee, _, step, rank) => trainee.Backward(Loss(trainee.Forward(input(step, rank)))));

    private static Module<Tensor, Tensor> Mlp(params int[] widths) => Sequential(widths.Zip(widths.Skip(1))
        .SelectMany((pair, i) => new Module<Tensor, Tensor>[] { Linear(pair.First, pair.Second), i == widths.Length - 2 ? Identity() : Tanh() })
        .ToArray());

    private static TrainingCase Branches(Func<int, int, int> choose) => new(() => new Branching(Width), (trainee, model, step, rank) =>
    {
        ((Branching)model).Chosen = choose(step, rank);
        trainee.Backward(Loss(trainee.Forward(Noise(step, rank, 6, 8))));
    });

    /// <summary>On rank 1 the loss depends on no parameter of the model.</summary>
    private static void LossOfNothing(ITrainee trainee, Module<Tensor, Tensor> model, int step, int rank)
    {
        var output = trainee.Forward(Noise(step, rank, 6, 8));
        if (rank == 1)
            trainee.Backward(ones(3, requires_grad: true).sum());
        else
            trainee.Backward(Loss(output));
    }

    /// <summary>The other ranks run the forward pass only.</summary>
    private static void BackwardOnRankZeroOnly(ITrainee trainee, Module<Tensor, Tensor> model, int step, int rank)
    {
        var output = trainee.Forward(Noise(step, rank, 6, 8));
        if (rank == 0)
            trainee.Backward(Loss(output));
    }

    private static void TwoBackwardsOfOneForward(ITrainee trainee, Module<Tensor, Tensor> model, int step, int rank)
    {
        var output = trainee.Forward(Noise(step, rank, 6, 8));
        trainee.Backward(output.pow(2).mean(), retainGraph: true);
        trainee.Backward(output.mean());
    }

    private static void TwoForwardsTwoBackwards(ITrainee trainee, Module<Tensor, Tensor> model, int step, int rank)
    {
        var first = trainee.Forward(Noise(step, rank, 6, 8));
        var second = trainee.Forward(Noise(step + 500, rank, 6, 8));
        trainee.Backward(Loss(first));
        trainee.Backward(Loss(second));
    }

    private static void TwoForwardsOneBackward(ITrainee trainee, Module<Tensor, Tensor> model, int step, int rank)
    {
        var first = trainee.Forward(Noise(step, rank, 6, 8));
        var second = trainee.Forward(Noise(step + 500, rank, 6, 8));
        trainee.Backward(Loss(first) + Loss(second));
    }

    private static void Accumulate(ITrainee trainee, Module<Tensor, Tensor> model, int step, int rank)
    {
        using (trainee.NoSync())
            for (var micro = 1; micro <= 3; micro++)
                trainee.Backward(Loss(trainee.Forward(Noise(step + 500 * micro, rank, 6, 8))));
        trainee.Backward(Loss(trainee.Forward(Noise(step, rank, 6, 8))));
    }

    /// <summary>A branch that only the accumulating pass used counts as used.</summary>
    private static void AccumulateOtherBranch(ITrainee trainee, Module<Tensor, Tensor> model, int step, int rank)
    {
        var branching = (Branching)model;
        branching.Chosen = (step + rank) % 3;
        using (trainee.NoSync())
            trainee.Backward(Loss(trainee.Forward(Noise(step + 500, rank, 6, 8))));
        branching.Chosen = step % 3;
        trainee.Backward(Loss(trainee.Forward(Noise(step, rank, 6, 8))));
    }

    /// <summary>Somebody keeps the gradients of every step.</summary>
    private static void KeepGradients(ITrainee trainee, Module<Tensor, Tensor> model, int step, int rank)
    {
        trainee.Backward(Loss(trainee.Forward(Noise(step, rank, 6, 8))));
        Kept.AddRange(model.parameters().Select(parameter => parameter.grad!.DetachFromDisposeScope()));
    }

    private static readonly List<Tensor> Kept = [];

    /// <summary>In every third step the last rank has no sample; its mean over samples is a sum over nothing.</summary>
    private static void EmptyLastShare(ITrainee trainee, Module<Tensor, Tensor> model, int step, int rank)
    {
        var count = step % 3 == 2 && rank == 1 ? 0 : 4;
        trainee.Backward(trainee.Forward(Noise(step, rank, count, 8)).pow(2).sum() / 4);
    }

    private static Module<Tensor, Tensor> Frozen()
    {
        var model = Mlp(8, Width, Width, 4);
        foreach (var parameter in model.parameters().Skip(2).Take(2))
            parameter.requires_grad = false;
        return model;
    }

    private static Module<Tensor, Tensor> Convolution(bool channelsLast)
    {
        var convolution = Conv2d(3, 6, 3);
        if (channelsLast)
            convolution.weight = new Parameter(empty(6, 3, 3, 3).normal_(0, 0.2, new Generator(5)).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2));
        return Sequential(convolution, BatchNorm2d(6), ReLU(), Flatten(), Linear(6 * 36, 3));
    }
}
