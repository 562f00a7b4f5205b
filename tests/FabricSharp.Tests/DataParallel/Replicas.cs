using FabricSharp.Collectives;
using FabricSharp.DataParallel;
using FabricSharp.Modules;
using FabricSharp.Tests.Collectives;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace FabricSharp.Tests.DataParallel;

/// <summary>The ranks' copies of one model.</summary>
internal static class Replicas
{
    /// <summary>Whether all ranks have the same bits in parameters and buffers. Collective.</summary>
    public static void RequireEqual(nn.Module module, ProcessGroup group)
    {
        foreach (var tensor in module.parameters().Concat(ModuleTensors.Buffers(module).Select(b => b.Buffer)))
        {
            if (tensor.numel() == 0)
                continue;
            using var off = no_grad();
            var bytes = frombuffer(tensor.detach().contiguous().cpu().bytes.ToArray(), ScalarType.Byte);
            var all = zeros([group.Size, bytes.numel()], ScalarType.Byte);
            group.AllGather(all, bytes).Wait();
            for (var rank = 1; rank < group.Size; rank++)
                Assert.True(all[rank].Equals(all[0]), $"rank {rank}'s replica differs from rank 0's");
        }
    }

    /// <summary>Runs <paramref name="body"/> on each rank with one linear layer from two numbers to one, under <see cref="DistributedDataParallel{T, TResult}"/>.</summary>
    public static void OfALinear(int ranks, DDPOptions options, Action<DistributedDataParallel<Tensor, Tensor>, Linear, ProcessGroup> body) => GroupOfThreads.Run("shm", ranks, group =>
    {
        var net = nn.Linear(2, 1, hasBias: false);
        using var model = new DistributedDataParallel<Tensor, Tensor>(net, group, options);
        body(model, net, group);
        group.Barrier().Wait();
    });
}
