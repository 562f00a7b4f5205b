// Reinforcement learning: each rank plays its own episodes of CartPole, which end when they end, so that the ranks have different numbers of
// environment steps. Policy gradient (REINFORCE) with the mean return as the baseline.
//
// Added to the base example: playing uses the plain module, without gradients, as often as it takes. The model that Setup gave back is called
// once for each optimizer step, on every rank, with whatever number of steps the rank has. Each rank's loss is weighed by its number of steps:
// Backward gives the mean over ranks, which becomes the mean over all steps.
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace FabricSharp.Examples.ByFeature;

internal static class ReinforcementLearning
{
    private const int EpisodesPerUpdate = 8;
    private const double Discount = 0.98;

    public static void Run(ExampleOptions options)
    {
        var fabric = new Fabric(accelerator: "cpu", devices: options.Devices);
        fabric.Launch();
        Fabric.SeedEverything(42);
        var net = Sequential(Linear(4, 64), Tanh(), Linear(64, 2));
        var (policy, optimizer) = fabric.Setup(net, optim.Adam(net.parameters(), lr: 1e-2));
        var (game, dice) = (new CartPole(seed: fabric.GlobalRank), new Random(fabric.GlobalRank));

        for (var update = 1; update <= (options.Epochs ?? 40); update++)
        {
            using var scope = NewDisposeScope();
            var played = Play(net, game, dice);
            var allSteps = fabric.AllReduce(played.Steps, "sum");

            optimizer.zero_grad();
            var chosen = functional.log_softmax(policy.call(played.States), 1).gather(1, played.Actions.unsqueeze(1)).squeeze(1);
            fabric.Backward(-(chosen * played.Advantages).sum() * (fabric.WorldSize / allSteps)); // not .mean(): ranks with more steps count more
            optimizer.step();

            if (update % 10 == 0 || update == 1)
                Report(fabric, update, played.Steps, allSteps);
        }
    }

    private static void Report(Fabric fabric, int update, int ownSteps, double allSteps)
    {
        using var own = tensor((long)ownSteps);
        var steps = string.Join(" and ", fabric.AllGather(own).reshape(-1).data<long>().ToArray());
        fabric.Print($"update {update}: {steps} steps on the ranks, {allSteps / (EpisodesPerUpdate * fabric.WorldSize):F0} per episode");
    }

    private static (Tensor States, Tensor Actions, Tensor Advantages, int Steps) Play(Sequential net, CartPole game, Random dice)
    {
        using var gradientsOff = no_grad();
        var (states, actions, returns) = (new List<float[]>(), new List<long>(), new List<double>());
        for (var episode = 0; episode < EpisodesPerUpdate; episode++)
        {
            game.Reset();
            var goesOn = true;
            var first = states.Count;
            while (goesOn)
            {
                using var scope = NewDisposeScope();
                states.Add(game.State);
                var right = dice.NextSingle() < softmax(net.call(tensor(states[^1])), 0)[1].item<float>();
                actions.Add(right ? 1 : 0);
                goesOn = game.Push(right);
            }

            var length = states.Count - first; // a reward of 1 for each step, the sum of those to come discounted
            returns.AddRange(Enumerable.Range(0, length).Select(i => (1 - Math.Pow(Discount, length - i)) / (1 - Discount)));
        }

        var values = tensor(returns.ToArray(), ScalarType.Float32);
        return (tensor(states.SelectMany(state => state).ToArray()).view(-1, 4), tensor(actions.ToArray()), (values - values.mean()) / (values.std() + 1e-6), states.Count);
    }
}
