namespace FabricSharp.Tests.Collectives.SharedMemory;

public sealed class SharedMemoryProcessGroupConformance : ProcessGroupConformance
{
    protected override string Backend => "shm";
}

public sealed class SharedMemoryWorkConformance : WorkConformance
{
    protected override string Backend => "shm";
}

public sealed class SharedMemoryFailureConformance : GroupFailureConformance
{
    protected override string Backend => "shm";
}

public sealed class SharedMemoryCollectiveConformance : CollectiveConformance
{
    protected override string Backend => "shm";
}
