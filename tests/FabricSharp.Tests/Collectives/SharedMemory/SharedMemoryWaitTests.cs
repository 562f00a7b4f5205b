using System.Collections.Concurrent;
using FabricSharp.Collectives;
using FabricSharp.Collectives.SharedMemory;
using static TorchSharp.torch;

namespace FabricSharp.Tests.Collectives.SharedMemory;

public sealed class SharedMemoryWaitTests
{
    [Fact]
    public void Wait_HalfOver_WarnsOnceAndNamesWhoIsMissingWithTheLastCall()
    {
        var warnings = new ConcurrentQueue<string>();
        GroupOfThreads.RunEach("shm", 2, group =>
        {
            ((SharedMemoryProcessGroup)group).Warn = warnings.Enqueue;
            group.Broadcast(ones(5), 0).Wait();
            if (group.Rank == 0)
                Assert.Throws<DistributedTimeoutException>(() => group.AllReduce(ones(10)).Wait(TimeSpan.FromSeconds(2)));
        }).ToList().ForEach(Assert.Null);
        Assert.Equal(
            "Rank 0 has waited 1 s, half of its limit, in operation 2 of 'the process group' (AllReduce(Sum) of 10 × Float32): " +
            "rank 1 did not call it (the last call of rank 1 was operation 1, Broadcast of 5 × Float32 from rank 0).",
            Assert.Single(warnings));
    }
}
