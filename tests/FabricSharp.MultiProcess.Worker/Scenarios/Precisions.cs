using System.Security.Cryptography;
using FabricSharp.MultiProcess.Worker.Cases;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Trains branches that differ by rank in a precision. With <c>overflow</c>, rank 1 gets an infinite gradient in that step.</summary>
internal static class Precisions
{
    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        Fabric.SeedEverything(3);
        var net = new Branching(width: 8);
        var (model, optimizer) = fabric.Setup(net, optim.SGD(net.parameters(), 0.05));
        var losses = new List<float>();
        var skipped = new List<int>();
        for (var step = 0; step < settings.Number("steps", 6); step++)
        {
            using var scope = NewDisposeScope();
            optimizer.zero_grad();
            net.Chosen = (step + fabric.GlobalRank) % 3;
            var loss = model.call(ones(4, 8)).pow(2).mean();
            fabric.Backward(loss);
            if (fabric.GlobalRank == 1 && settings.Number("overflow", -1) == step)
                net.parameters().First(p => p.grad is not null).grad!.fill_(double.PositiveInfinity);
            var before = Hash(net);
            optimizer.step();
            losses.Add(loss.item<float>());
            if (Hash(net) == before)
                skipped.Add(step);
        }

        Report.Send(new
        {
            rank = fabric.GlobalRank,
            parameters = net.parameters().Select(p => p.dtype.ToString()).Distinct(),
            gradients = net.parameters().Where(p => p.grad is not null).Select(p => p.grad!.dtype.ToString()).Distinct(),
            defaultType = get_default_dtype().ToString(),
            scale = fabric.Precision.Scaler?.CurrentScale,
            hash = Hash(net),
            skipped,
            losses,
        });
    }

    private static string Hash(nn.Module model)
    {
        using var scope = NewDisposeScope();
        using var all = cat([.. model.parameters().Select(p => p.detach().to(ScalarType.Float64).flatten())]);
        return Convert.ToHexString(SHA256.HashData(all.bytes));
    }
}
