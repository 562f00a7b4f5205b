using System.Security.Cryptography;
using FabricSharp.DataParallel;
using FabricSharp.MultiProcess.Worker.Cases;
using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>Trains branches that differ by rank, with AdamW as it is and shared out over the ranks; saves in the middle and goes on from there with the other one.</summary>
internal static class ShardedOptimizer
{
    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        var path = settings.Text("path");
        var plain = Train(fabric, sharded: false, 0, 6, null, null);
        var half = Train(fabric, sharded: true, 0, 3, null, path);
        var swapped = Train(fabric, sharded: false, 3, 3, path, null);
        var whole = Train(fabric, sharded: true, 0, 6, null, null);
        Report.Send(new { rank = fabric.GlobalRank, plain = plain.Hash, swapped = swapped.Hash, sharded = whole.Hash, owned = half.Owned });
    }

    private static (string Hash, long Owned) Train(Fabric fabric, bool sharded, int first, int steps, string? from, string? to)
    {
        Fabric.SeedEverything(3);
        var net = new Branching(width: 8);
        optim.Optimizer made = sharded ? fabric.ShardOptimizer(net.parameters(), share => optim.AdamW(share, 0.01)) : optim.AdamW(net.parameters(), 0.01);
        var (model, optimizer) = fabric.Setup(net, made);
        if (from is not null)
            fabric.Load(from, new() { ["model"] = model, ["optimizer"] = optimizer });
        for (var step = first; step < first + steps; step++)
        {
            using var scope = NewDisposeScope();
            optimizer.zero_grad();
            net.Chosen = (step + fabric.GlobalRank) % 3;
            fabric.Backward(model.call(full([4, 8], step * 0.1)).pow(2).mean());
            optimizer.step();
        }

        if (to is not null)
            fabric.Save(to, new() { ["model"] = model, ["optimizer"] = optimizer });
        using var all = cat([.. net.parameters().Select(parameter => parameter.detach().flatten())]);
        var owned = (made as ZeroRedundancyOptimizer)?.Optimizer.parameters().Sum(parameter => parameter.numel()) ?? all.numel();
        model.Dispose();
        return (Convert.ToHexString(SHA256.HashData(all.bytes)), owned);
    }
}
