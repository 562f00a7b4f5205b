using static TorchSharp.torch;

namespace FabricSharp.MultiProcess.Worker.Scenarios;

/// <summary>The façade's collectives between processes.</summary>
internal static class CollectiveCalls
{
    public static void Run(Settings settings)
    {
        var fabric = settings.Launch();
        var rank = fabric.GlobalRank;
        var large = full([100_003], rank + 1, ScalarType.Float32);
        fabric.AllReduce(large, "sum");
        Report.Send(new
        {
            rank,
            sum = large.unique().output.data<float>().ToArray(),
            mean = fabric.AllReduce(rank + 1.0),
            integerMean = fabric.AllReduce(tensor(new long[] { rank, -rank })).data<long>().ToArray(),
            gathered = fabric.AllGather(tensor(new[] { rank, 10 * rank })).data<int>().ToArray(),
            text = fabric.Broadcast($"from rank {rank}", src: fabric.WorldSize - 1),
            complex = fabric.Broadcast(new Dictionary<string, double[]> { ["x"] = [rank, 0.5] }),
            tuple = fabric.Broadcast((Rank: rank, Loss: double.PositiveInfinity), src: fabric.WorldSize - 1).ToString(),
            tensor = fabric.Broadcast(full([5], rank, ScalarType.Int32), src: 1).data<int>().ToArray(),
        });
        fabric.Barrier();
    }

}
