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
            unknownShape = fabric.Broadcast(rank == 0 ? arange(6).reshape(2, 3) : null).shape,
            collection = fabric.Broadcast(rank == 1 ? new Dictionary<string, List<Tensor>> { ["x"] = [ones(2), arange(3)] } : [], src: 1)["x"][1].data<long>().ToArray(),
            metrics = fabric.AllReduce(new Dictionary<string, double> { ["loss"] = rank, ["accuracy"] = 1 }),
            nested = fabric.AllGather((full(2, rank, ScalarType.Int32), "own")).Item1.data<int>().ToArray(),
            sawRankZerosFile = RankZeroFirst(fabric, settings),
            tensor = fabric.Broadcast(full([5], rank, ScalarType.Int32), src: 1).data<int>().ToArray(),
        });
        fabric.Barrier();
    }

    /// <summary>Rank 0 takes its time to write a file that the others find.</summary>
    private static bool RankZeroFirst(Fabric fabric, Settings settings)
    {
        var file = settings.Text("file");
        using (fabric.RankZeroFirst())
        {
            if (fabric.GlobalRank == 0)
            {
                using var never = new ManualResetEventSlim();
                never.Wait(TimeSpan.FromMilliseconds(200));
                File.WriteAllText(file, "data");
            }

            return File.Exists(file);
        }
    }
}
